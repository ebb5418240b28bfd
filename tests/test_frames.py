"""Frames and files of results: one type a column whatever happened, and nothing changed on the way to a file."""

from __future__ import annotations

import csv
import datetime
import json
import math
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import Made, failed, make_run

from tuner.errors import UsageError
from tuner.frames import SUFFIXES, to_frame, write
from tuner.results import load
from tuner.row_files import Column, infer, to_rows, write_table

CONFIG = {"learning_rate": 0.1, "layers": 2, "batch_norm": True, "optimizer": "sgd"}
TRIALS = {
    "trial": "str",
    "number": "int64",
    "stage": "str",
    "fold": "Int64",
    "repeat": "int64",
    "status": "str",
    "cause": "str",
    "error": "str",
    "best_epoch": "Int64",
    "epochs": "int64",
    "seed": "int64",
    "attempts": "int64",
    "worker": "str",
    "started_at": "datetime64[us, UTC]",
    "duration_s": "float64",
}
CONFIGS = {
    "config.learning_rate": "float64",
    "config.layers": "int64",
    "config.batch_norm": "bool",
    "config.optimizer": "str",
}
METRICS = ("val_accuracy", "train_loss")
EPOCHS = {"trial": "str", "number": "int64", "epoch": "int64", "reported_at": "datetime64[us, UTC]"}


def types(frame):
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


@pytest.mark.parametrize(
    "trials",
    [
        [Made(CONFIG, [0.5, 0.6])],
        [Made(CONFIG, [0.5]), failed(CONFIG)],
        [failed(CONFIG), Made(CONFIG, [None, math.nan], "failed", "config.non_finite", "nan")],
        [Made(CONFIG, [1])],  # a metric that happens to be whole
        [Made(CONFIG, [1]), Made(CONFIG, [0.5]), Made(CONFIG, [], "pending")],
        [Made(CONFIG, [None])],
        [failed(CONFIG)],
    ],
    ids=["all completed", "a failed one", "none finite", "whole", "mixed", "missing", "nothing reported"],
)
def test_a_columns_type_does_not_depend_on_what_happened(tmp_path, trials):
    results = load(make_run(tmp_path / "run", trials))
    reported = any(trial.values for trial in trials)
    metrics = METRICS if reported else ()
    numbers = {f"{part}.{name}": "float64" for part in ("best", "last") for name in metrics}
    assert types(results.trials) == {**TRIALS, **CONFIGS, **numbers}
    assert types(results.epochs) == {**EPOCHS, **dict.fromkeys(metrics, "float64")}


def test_the_frames_of_a_run_without_trials_have_their_columns(tmp_path):
    results = load(make_run(tmp_path / "run", [], finished=None))
    assert (len(results.trials), types(results.trials)) == (0, TRIALS)
    assert (len(results.epochs), types(results.epochs)) == (0, EPOCHS)


def test_missing_is_missing_in_every_column(tmp_path):
    results = load(make_run(tmp_path / "run", [failed(CONFIG), Made(CONFIG, [0.5]), Made({"width": 3}, [], "pending")]))
    gaps = results.trials.isna()
    assert gaps["best_epoch"].tolist() == gaps["best.val_accuracy"].tolist() == [True, False, True]
    assert gaps["cause"].tolist() == gaps["error"].tolist() == [False, True, True]
    assert gaps["started_at"].tolist() == [False, False, True]
    assert gaps["config.learning_rate"].tolist() == [False, False, True]
    assert gaps["fold"].all() and not gaps["epochs"].any()


def test_times_are_utc_to_the_millisecond(tmp_path):
    started = load(make_run(tmp_path / "run", [Made(CONFIG, [0.5])])).trials["started_at"][0]
    assert started == pd.Timestamp("2025-06-15T15:06:41.500Z")


def test_whole_numbers_with_gaps_stay_whole(tmp_path):
    table = [infer("config.n", [1, None, 2**62 + 1])]
    assert types(to_frame(table)) == {"config.n": "Int64"}
    write_table(table, tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet")["config.n"].tolist() == [1, pd.NA, 2**62 + 1]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int"),
        ([1, None], "int"),
        ([1, 2.5], "float"),
        ([math.nan, None], "float"),
        ([None], "float"),
        ([], "float"),
        (["a", None], "text"),
        ([True, None], "bool"),
        ([True, 1], "json"),
        ([[1], [2, 3]], "json"),
        (["none", 0.5], "json"),
        ([2**63, 1], "json"),
        ([{"a": 1}], "json"),
    ],
)
def test_the_kind_of_a_parameters_column(values, kind):
    assert infer("config.x", values).kind == kind


# -- files ----------------------------------------------------------------------------------------------------------

ODD = [
    Column("number", "int", [1, 2, 3, 4]),
    Column("fold", "int", [None, 0, 1, None], gaps=True),
    Column("loss", "float", [0.1, math.nan, None, math.inf]),
    Column("text", "text", ["", None, 'a "quoted", comma', "line\nbreak\r\x00 ü ✓"]),
    infer("bool", [True, False, True, False]),
    infer("gap", [True, None, False, None]),
    infer("list", [[1, 2.5, "a"], None, [], [[1], [None]]]),
    infer("mixed", [1, "a", None, True]),
    infer("numbers", [1, 2.5, None, -0.0]),
    infer("nothing", [None, None, None, None]),
    Column("at", "time", [0.0, None, 1_750_000_000.1234, 1_750_000_000.9996]),
]
AT = ["1970-01-01T00:00:00.000+00:00", None, "2025-06-15T15:06:40.123+00:00", "2025-06-15T15:06:41.000+00:00"]


def test_a_json_file_holds_every_value_as_it_is(tmp_path):
    write_table(ODD, tmp_path / "t.json")
    back = json.loads((tmp_path / "t.json").read_text())
    expected = to_rows(ODD)
    assert [row["at"] for row in expected] == AT
    expected[3]["loss"] = None  # JSON has no infinity
    assert repr(back) == repr(expected)


def test_a_csv_file_holds_every_value_as_text(tmp_path):
    write_table(ODD, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == [column.name for column in ODD]
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    assert columns["fold"] == ("", "0", "1", "")
    assert columns["loss"] == ("0.1", "", "", "inf")
    assert columns["text"] == ("", "", 'a "quoted", comma', "line\nbreak\r\x00 ü ✓")
    assert columns["gap"] == ("True", "", "False", "")
    assert columns["list"] == ('[1, 2.5, "a"]', "", "[]", "[[1], [null]]")
    assert columns["mixed"] == ("1", '"a"', "", "true")
    assert columns["numbers"] == ("1.0", "2.5", "", "-0.0")
    assert columns["at"] == tuple(text or "" for text in AT)


def test_a_parquet_file_holds_every_value_in_its_type(tmp_path):
    write_table(ODD, tmp_path / "t.parquet")
    back = pd.read_parquet(tmp_path / "t.parquet")
    frame = to_frame(ODD)
    for name in ("number", "fold", "loss", "text", "bool", "gap", "numbers", "nothing", "at"):
        pd.testing.assert_series_equal(back[name], frame[name])
    # Where Parquet needs one type a column, lists and mixed values are JSON text.
    assert [None if pd.isna(text) else json.loads(text) for text in back["list"]] == ODD[6].values
    assert [None if pd.isna(text) else json.loads(text) for text in back["mixed"]] == ODD[7].values


def test_a_large_table_of_texts_with_line_breaks_is_read_in_one_piece(tmp_path):
    texts = [f"line {number}\n" * 100 for number in range(3000)]  # several of the blocks that pyarrow reads
    write_table([Column("text", "text", texts), Column("n", "int", list(range(3000)))], tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet")["text"].tolist() == texts


FLOATS = st.none() | st.floats(width=64)
INTEGERS = st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
TEXTS = st.none() | st.text(st.sampled_from('",\r\n') | st.characters(codec="utf-8"), max_size=5)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(st.tuples(FLOATS, INTEGERS, TEXTS), min_size=1, max_size=5))
def test_files_hold_floats_integers_and_texts_exactly(tmp_path_factory, rows):
    folder = tmp_path_factory.getbasetemp()
    floats, integers, texts = map(list, zip(*rows, strict=True))
    known = [None if value is None or math.isnan(value) else value for value in floats]
    table = [Column("f", "float", floats), Column("i", "int", integers, gaps=True), Column("t", "text", texts)]
    write_table(table, folder / "t.parquet")
    back = pd.read_parquet(folder / "t.parquet")
    bits = [None if value is None else value.hex() for value in known]
    assert [None if math.isnan(value) else value.hex() for value in back["f"]] == bits
    assert [None if value is pd.NA else value for value in back["i"]] == integers
    assert [None if pd.isna(value) else value for value in back["t"]] == texts
    write_table(table, folder / "t.csv")
    with (folder / "t.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [float(row["f"]).hex() if row["f"] else None for row in cells] == bits
    assert [int(row["i"]) if row["i"] else None for row in cells] == integers
    assert [row["t"] for row in cells] == [text or "" for text in texts]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_frame_is_written_as_the_export_is(tmp_path, suffix):
    good = Made({**CONFIG, "schedule": [[1, 0.1], [5, 0.01]], "odd": "none"}, [0.5, 0.25])
    odd = [failed({**CONFIG, "odd": 0.5}), Made({"layers": 3}, [], "pending")]
    for name, trials in (("odd", [good, *odd]), ("good", [good])):
        results = load(make_run(tmp_path / name, trials))
        for frame, table in ((results.trials, results.trial_columns()), (results.epochs, results.epoch_columns())):
            write(frame, tmp_path / f"frame{suffix}")
            write_table(table, tmp_path / f"export{suffix}")
            assert (tmp_path / f"frame{suffix}").read_bytes() == (tmp_path / f"export{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_frame_without_rows_is_a_file_too(tmp_path, suffix):
    results = load(make_run(tmp_path / "run", [], finished=None))
    path = tmp_path / f"empty{suffix}"
    write(results.epochs, path)
    if suffix == ".json":
        assert json.loads(path.read_text()) == []
    else:
        back = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
        assert (len(back), list(back)) == (0, list(EPOCHS))


def test_a_frame_that_a_person_changed_can_be_written(tmp_path):
    frame = load(make_run(tmp_path / "run", [Made(CONFIG, [0.5]), Made(CONFIG, [0.7])])).trials
    frame = frame.sort_values("best.val_accuracy", ascending=False)
    frame["share"] = frame["best.val_accuracy"] / 2
    frame["day"] = [datetime.date(2026, 1, 2).isoformat(), None]
    frame[7] = frame["epochs"].astype("int32")
    write(frame[["trial", "share", "day", 7]], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"trial,share,day,7\nt0002,0.35,2026-01-02,1\nt0001,0.25,,1\n"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "t.csv"
    write_table([Column("a", "int", [1])], path)
    with pytest.raises(TypeError):
        write_table([Column("a", "json", [object()])], path)
    with path.open() as reader:
        write_table([Column("a", "int", [2])], path)
        assert reader.read() == "a\n1\n"  # who has the old file open reads it whole
    assert path.read_text() == "a\n2\n"
    assert [child.name for child in tmp_path.iterdir()] == ["t.csv"]


def test_a_folder_is_made_and_what_cannot_be_written_is_told(tmp_path):
    write_table(ODD, tmp_path / "new" / "t.csv")
    with pytest.raises(UsageError, match=r"t.csv/t.csv: cannot be written: .*Choose another file"):
        write_table(ODD, tmp_path / "new" / "t.csv" / "t.csv")


@pytest.mark.parametrize("name", ["t", "t.xlsx", ".csv"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"the suffix must be one of .csv, .parquet, .json"):
        write_table(ODD, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_are_written_without_pandas(tmp_path, suffix):
    # Its import alone takes most of the second that `tuner export` may take.
    code = (
        "import sys; from pathlib import Path; from tuner.row_files import infer, write_table;"
        "write_table([infer('a', [1, None]), infer('b', [[1], 'x'])], Path(sys.argv[1]));"
        "print(*({'pandas', 'torch', 'ray'} & set(sys.modules)))"
    )
    path = tmp_path / f"t{suffix}"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert path.is_file()
