"""Tables from CSV and Parquet: missing values, text columns, targets, groups."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from trainables import data
from trainables.data.columns import apply_table, fit_table
from tuner.errors import DataError


def titanic(rows: int = 120) -> pd.DataFrame:
    """Return a table with all that the real one has: gaps, texts, names, whole numbers; some columns are told apart."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "PassengerId": np.arange(rows) + 1,
            "Survived": rng.randint(0, 2, rows),
            "Pclass": rng.randint(1, 4, rows),
            "Name": [f"Passenger {index}" for index in range(rows)],
            "Sex": rng.choice(["female", "male"], rows),
            "Age": rng.uniform(1, 80, rows).round(1),
            "Fare": rng.lognormal(3, 1, rows),
            "Embarked": rng.choice(["C", "Q", "S"], rows),
            "Alone": rng.randint(0, 2, rows).astype(bool),
        }
    )
    frame.loc[::7, "Age"] = np.nan
    frame.loc[::11, "Embarked"] = None
    return frame


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "titanic.csv"
    titanic().to_csv(path, index=False)
    return path


def options(path, **keys) -> dict:
    return {"name": "table", "path": str(path), "target": "Survived", **keys}


def plan_of(loaded, column: str) -> dict:
    return next(plan for plan in loaded.preprocess["columns"] if plan["column"] == column)


def feature(loaded, name: str, split: str = "train") -> np.ndarray:
    return getattr(loaded, split).x[:, loaded.preprocess["features"].index(name)]


def test_a_csv_becomes_numbers(csv):
    loaded, sealed = data.load(options(csv), 0), data.load_test(options(csv), 0)
    assert loaded.task == "classification" and loaded.classes == ("0", "1")
    assert (loaded.n_train, loaded.n_val, len(sealed)) == (72, 24, 24)
    expected = ["PassengerId", "Pclass", "Sex = female", "Sex = male", "Age", "Age is missing", "Fare"]
    expected += ["Embarked = C", "Embarked = Q", "Embarked = S", "Embarked is missing"]
    expected += ["Alone = False", "Alone = True"]
    assert loaded.preprocess["features"] == expected and loaded.shape == (13,)
    assert sealed.x.shape == (24, 13) and np.isfinite(loaded.val.x).all() and np.isfinite(sealed.x).all()


def test_parquet_gives_what_csv_gives(csv, tmp_path):
    titanic().to_parquet(tmp_path / "titanic.parquet")
    one, other = data.load(options(csv), 5), data.load(options(tmp_path / "titanic.parquet"), 5)
    assert np.array_equal(one.train.x, other.train.x) and np.array_equal(one.val.y, other.val.y)
    assert one.preprocess == other.preprocess


def test_info_is_what_load_gives_and_preprocess_is_json(csv):
    info, loaded = data.info(options(csv), seed=4), data.load(options(csv), 4)
    for key in ("name", "task", "shape", "classes", "n_train", "n_val"):
        assert getattr(info, key) == getattr(loaded, key), key
    assert json.loads(json.dumps(loaded.preprocess)) == loaded.preprocess


def test_statistics_are_of_the_training_rows_alone(tmp_path):
    # x is the row's number, so that the training rows can be told from the encoded values.
    path = tmp_path / "table.csv"
    pd.DataFrame({"x": np.arange(100.0), "y": np.arange(100) % 2}).to_csv(path, index=False)
    loaded = data.load(options(path, target="y"), 0)
    plan = plan_of(loaded, "x")
    train = loaded.train.x[:, 0] * plan["std"] + plan["mean"]
    assert plan["mean"] == pytest.approx(train.mean(), abs=1e-4)
    assert plan["std"] == pytest.approx(train.std(), abs=1e-4)
    assert plan["fill"] == pytest.approx(np.median(train), abs=1e-4)
    # No row is in two splits, and every row is in one.
    sealed = data.load_test(options(path, target="y"), 0)
    everything = np.concatenate([loaded.train.x, loaded.val.x, sealed.x])[:, 0] * plan["std"] + plan["mean"]
    assert np.rint(np.sort(everything)).tolist() == list(range(100))


def test_nothing_of_the_test_rows_is_left_in_what_load_gives(tmp_path):
    path = tmp_path / "table.csv"
    marks = [f"mark{index}" for index in range(40)]
    pd.DataFrame({"x": np.arange(40.0), "word": marks, "y": np.arange(40) % 2}).to_csv(path, index=False)
    loaded = data.load(options(path, target="y"), 0)
    sealed = data.load_test(options(path, target="y"), 0)
    known = plan_of(loaded, "word")["categories"]
    # 24 training rows, 20 categories of them, and every test row is "another".
    assert len(known) == 20 and len(sealed) == 8
    column = loaded.preprocess["features"].index("word is another")
    assert sealed.x[:, column].tolist() == [1.0] * 8
    assert len(loaded.train.x) == 24 and loaded.train.x.base is None


def test_gaps_are_filled_with_the_training_median_and_marked(csv):
    loaded = data.load(options(csv), 0)
    plan = plan_of(loaded, "Age")
    missing = feature(loaded, "Age is missing")
    filled = feature(loaded, "Age")[missing == 1]
    assert set(missing.tolist()) == {0.0, 1.0}
    assert filled == pytest.approx(np.full(len(filled), (plan["fill"] - plan["mean"]) / plan["std"]), abs=1e-6)


def test_a_gap_that_training_did_not_have_is_filled_too():
    preprocess = fit_table(pd.DataFrame({"x": [1.0, 2.0, 6.0]}), {})
    assert preprocess["features"] == ["x"]
    new = apply_table(preprocess, pd.DataFrame({"x": [np.nan, 2.0, np.inf]}))
    assert new[0] == new[1] == new[2]


def test_unseen_categories_are_none_or_other():
    few = fit_table(pd.DataFrame({"word": ["a", "b", "a"]}), {})
    assert apply_table(few, pd.DataFrame({"word": ["b", "new", None]})).tolist() == [[0, 1], [0, 0], [0, 0]]
    many = fit_table(pd.DataFrame({"word": [f"w{index:02}" for index in range(30)] * 3}), {})
    assert many["features"][-1] == "word is another" and many["shape"] == [21]
    encoded = apply_table(many, pd.DataFrame({"word": ["w00", "new", "w29"]}))
    # The 20 first of equally common words have a feature each.
    assert encoded.argmax(1).tolist() == [0, 20, 20] and encoded.sum(1).tolist() == [1, 1, 1]


def test_the_most_common_categories_are_kept():
    words = [f"w{index}" for index in range(40) for _ in range(index + 1)]
    preprocess = fit_table(pd.DataFrame({"word": words}), {})
    assert set(preprocess["columns"][0]["categories"]) == {f"w{index}" for index in range(20, 40)}


def test_useless_columns_are_dropped_and_said(csv, tmp_path):
    dropped = data.load(options(csv), 0).preprocess["dropped"]
    assert dropped == {"Survived": "the target", "Name": "72 distinct texts in 72 training rows"}
    frame = titanic().assign(constant=3, empty=np.nan, always="yes")
    frame.to_csv(tmp_path / "more.csv", index=False)
    dropped = data.load(options(tmp_path / "more.csv", drop=["PassengerId"]), 0).preprocess["dropped"]
    one = "one value in all training rows"
    assert dropped["constant"] == dropped["empty"] == dropped["always"] == one
    assert dropped["PassengerId"] == "data.drop"


def test_new_rows_are_encoded_by_what_was_kept(csv):
    # What `predict` does: the preprocess from a JSON file, and a frame without the target.
    loaded = data.load(options(csv, test_fraction=0.0), 0)
    preprocess = json.loads(json.dumps(loaded.preprocess))
    encoded = apply_table(preprocess, titanic().drop(columns=["Survived", "Name"])[::-1])
    assert {row.tobytes() for row in encoded} == {row.tobytes() for row in (*loaded.train.x, *loaded.val.x)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.rename(columns={"Fare": "fare"}), 'column "Fare" is not there.*Did you mean "fare"'),
        (lambda frame: frame.assign(Age="old"), r"column \"Age\" must hold numbers, but has \('old'\)"),
    ],
)
def test_new_rows_that_do_not_fit_are_errors(csv, change, message):
    preprocess = data.load(options(csv), 0).preprocess
    with pytest.raises(DataError, match=message):
        apply_table(preprocess, change(titanic()))


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        ([0, 1, 2] * 20, "classification", ("0", "1", "2")),
        ([10, 9, 2] * 20, "classification", ("2", "9", "10")),
        ([1.0, None, 2.0] * 20, "classification", ("1", "2")),
        (["no", "yes", None] * 20, "classification", ("no", "yes")),
        ([True, False, True] * 20, "classification", ("False", "True")),
        (list(range(21)) * 3, "regression", ()),
        ([0.5, 1.5, 2.0] * 20, "regression", ()),
    ],
)
def test_the_task_is_found_from_the_target(tmp_path, target, task, classes):
    path = tmp_path / "table.csv"
    pd.DataFrame({"x": np.random.RandomState(0).rand(len(target)), "y": target}).to_csv(path, index=False)
    loaded = data.load(options(path, target="y"), 0)
    assert (loaded.task, loaded.classes) == (task, classes)
    assert loaded.train.y.dtype == (np.int64 if classes else np.float32)
    assert loaded.preprocess["task"] == task and loaded.preprocess["classes"] == list(classes)


def test_the_task_can_be_told(tmp_path):
    path = tmp_path / "table.csv"
    pd.DataFrame({"x": np.arange(60.0), "y": np.arange(60) % 3 * 0.5}).to_csv(path, index=False)
    told = data.load(options(path, target="y", task="classification"), 0)
    assert told.classes == ("0", "0.5", "1") and told.outputs == 3
    assert data.load(options(path, target="y"), 0).outputs == 1


def test_regression_keeps_the_targets_units_and_gives_their_scale(tmp_path):
    path = tmp_path / "houses.csv"
    pd.DataFrame({"x": np.arange(50.0), "price": 1000 * np.arange(50.0) + 0.5}).to_csv(path, index=False)
    loaded = data.load(options(path, target="price"), 0)
    assert loaded.train.y.max() > 40_000 and loaded.train.y.dtype == np.float32
    assert loaded.preprocess["target_mean"] == pytest.approx(loaded.train.y.mean(), rel=1e-6)
    assert loaded.preprocess["target_std"] == pytest.approx(loaded.train.y.std(), rel=1e-6)


def test_rows_without_a_target_are_dropped_and_counted(tmp_path):
    frame = titanic()
    frame["Survived"] = frame["Survived"].astype(float)
    frame.loc[:9, "Survived"] = np.nan
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    loaded = data.load(options(tmp_path / "gaps.csv"), 0)
    assert loaded.preprocess["rows_without_target"] == 10 and loaded.classes == ("0", "1")
    assert loaded.n_train + loaded.n_val + len(data.load_test(options(tmp_path / "gaps.csv"), 0)) == 110


@pytest.mark.parametrize("keys", [{}, {"folds": 3}])
def test_rows_of_a_group_stay_together_and_the_group_is_no_feature(tmp_path, keys):
    path = tmp_path / "patients.csv"
    # Each patient has a value of x of its own.
    patient = np.repeat(np.arange(30), 4)
    frame = pd.DataFrame({"patient": [f"p{one}" for one in patient], "x": patient, "y": np.arange(120) % 2})
    frame.to_csv(path, index=False)
    wanted = options(path, target="y", group="patient", **keys)
    loaded = data.load(wanted, 0, fold=1 if keys else None)
    sealed = data.load_test(wanted, 0, loaded.preprocess)
    values = [set(split.x[:, 0].tolist()) for split in (loaded.train, loaded.val, sealed)]
    assert loaded.preprocess["features"] == ["x"]
    assert sum(map(len, values)) == len(set.union(*values)) == 30


def test_limit_keeps_the_balance(csv):
    loaded = data.load(options(csv, limit=50), 0)
    assert loaded.n_train + loaded.n_val == 40


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"target": "Survivd"}, r'data\.target: .* no such column, but got \("Survivd"\)\. Did you mean "Survived"'),
        ({"target": None}, r"data\.target: .* needs the column to predict\. Columns: PassengerId, Survived"),
        ({"path": None}, r'data\.path: name = "table" needs the file'),
        ({"group": "family"}, r'data\.group: .* no such column, but got \("family"\)'),
        ({"drop": ["Fare", "fares"]}, r'data\.drop: .*\("fares"\)\. Did you mean "Fare"'),
        ({"target": "Name", "task": "regression"}, r'data\.target: task = "regression" needs numbers\. .*Passenger 0'),
        ({"target": "Name"}, "the test split would be empty"),
        ({"image_size": 32}, r'data\.image_size: does not apply to "table"'),
    ],
)
def test_columns_that_do_not_fit_are_errors_that_name_them(csv, keys, message):
    with pytest.raises(DataError, match=message):
        data.load(options(csv) | keys, 0)


BAD_FILES = {
    "missing": ("table.csv", None, "data.path: no file is there, but got (.*table.csv)"),
    "suffix": ("table.xlsx", b"x", "must end in .csv or .parquet"),
    "no parquet": ("table.parquet", b"a,b\n1,2\n", "not a readable parquet file"),
    "empty": ("table.csv", b"", "not a readable csv file"),
    "ragged": ("table.csv", b"Survived,b\n1,2\n1,2,3,4\n", "not a readable csv file.*line 3"),
    "no text": ("table.csv", bytes(range(256)) * 4, "table.csv"),
    "header only": ("table.csv", b"Survived,b\n", "there are no rows"),
    "one class": (
        "table.csv",
        b"Survived,b\n1,2\n1,3\n",
        "must have two classes or more, but got .1.. Is it the right",
    ),
    "no target": ("table.csv", b"Survived,b\n,2\n,3\n", "must have two classes.*Every row lacks it"),
    "infinite": ("table.csv", b"Survived,b\ninf,2\n1,3\n", "must be finite"),
    "no feature": ("table.csv", b"Survived,b\n" + b"0,1\n1,1\n" * 20, "no column is left to learn from .*b: one value"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path, case):
    name, content, message = BAD_FILES[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.load(options(tmp_path / name), 0)


def test_whole_numbers_as_column_names_and_dates_as_texts(tmp_path):
    days = pd.date_range("2024-01-01", periods=120)
    frame = pd.DataFrame({"0": np.arange(120.0), "day": days, "y": np.arange(120) % 2})
    frame.to_parquet(tmp_path / "days.parquet")
    loaded = data.load(options(tmp_path / "days.parquet", target="y"), 0)
    assert loaded.preprocess["features"] == ["0"] and "distinct texts" in loaded.preprocess["dropped"]["day"]
