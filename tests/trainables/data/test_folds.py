"""Folds of real sets: what each holds, and what it is preprocessed with."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from trainables import data
from tuner.errors import DataError

FOLDS = 4


def hashes(split) -> list[str]:
    """The content of each sample with its label: rows that a fold shares with the test split cannot hide."""
    return [hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() for x, y in zip(split.x, split.y, strict=True)]


def folds_of(options, seed=0, folds=FOLDS):
    return [data.load(options, seed, fold=fold, folds=folds) for fold in range(folds)]


@pytest.fixture
def pictures(tmp_path):
    """A tree with train/ and val/, 3 classes of uneven size; every image is another one."""
    shades = iter(np.random.default_rng(0).permutation(256))
    for part, sizes in {"train": (13, 8, 9), "val": (5, 4, 3)}.items():
        for name, size in zip(("a", "b", "c"), sizes, strict=True):
            folder = tmp_path / "tree" / part / name
            folder.mkdir(parents=True)
            for number in range(size):
                Image.new("RGB", (4, 4), (int(next(shades)),) * 3).save(folder / f"{number}.png")
    return {"name": "images", "path": str(tmp_path / "tree"), "image_size": 4}


@pytest.fixture
def patients(tmp_path):
    """A table of 40 patients with 1 to 5 visits each; a patient's visits are one group."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    frame = pd.DataFrame({"patient": patient, "x": rng.normal(size=len(patient)), "id": np.arange(len(patient))})
    frame["ill"] = np.where(patient % 3 == 0, "yes", "no")
    frame.to_csv(tmp_path / "visits.csv", index=False)
    return {"name": "table", "path": str(tmp_path / "visits.csv"), "target": "ill", "group": "patient"}


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "diabetes"])
def test_folds_part_train_and_validation_and_never_hold_a_test_sample(name):
    options = {"name": name, "limit": 300}
    ordinary, sealed = data.load(options, 0), data.load_test(options, 0)
    if name == "digits":  # a table's rows are scaled anew in each fold, so that only images can be known again
        outside = Counter(hashes(ordinary.train) + hashes(ordinary.val))
        seen = Counter(h for fold in folds_of(options) for h in hashes(fold.val))
        assert seen == outside
        for fold in folds_of(options):
            assert Counter(hashes(fold.train) + hashes(fold.val)) == outside
            assert not set(hashes(fold.train) + hashes(fold.val)) & set(hashes(sealed))
    total = ordinary.n_train + ordinary.n_val
    assert total + len(sealed) == 300
    assert [fold.n_train + fold.n_val for fold in folds_of(options)] == [total] * FOLDS
    assert sum(fold.n_val for fold in folds_of(options)) == total


def test_folds_of_a_table_part_its_rows_and_never_hold_a_test_row(patients):
    # The column id tells the rows apart: its scaling is undone by what the fold was preprocessed with.
    def ids(split, preprocess):
        (plan,) = (plan for plan in preprocess["columns"] if plan["column"] == "id")
        column = preprocess["features"].index("id")
        return np.rint(split.x[:, column] * plan["std"] + plan["mean"]).astype(int).tolist()

    ordinary = data.load(patients, 0)
    sealed = set(ids(data.load_test(patients, 0), ordinary.preprocess))
    outside = sorted(ids(ordinary.train, ordinary.preprocess) + ids(ordinary.val, ordinary.preprocess))
    folds = folds_of(patients)
    assert sealed and not sealed & set(outside)
    assert sorted(row for fold in folds for row in ids(fold.val, fold.preprocess)) == outside
    patient = pd.read_csv(patients["path"])["patient"].to_numpy()
    for fold in folds:
        train, val = ids(fold.train, fold.preprocess), ids(fold.val, fold.preprocess)
        assert sorted(train + val) == outside
        assert not set(patient[train]) & set(patient[val])


def test_folds_of_a_tree_with_its_own_validation_join_both(pictures):
    ordinary, sealed = data.load(pictures, 0), data.load_test(pictures, 0)
    outside = sorted(hashes(ordinary.train) + hashes(ordinary.val))
    seen = sorted(h for fold in folds_of(pictures, folds=3) for h in hashes(fold.val))
    assert seen == outside and not set(seen) & set(hashes(sealed))
    assert hashes(data.load(pictures, 0, whole=True).train) == hashes(ordinary.train) + hashes(ordinary.val)


@pytest.mark.parametrize("options", [{"name": "digits", "limit": 501}, {"name": "wine"}, "pictures"])
def test_every_class_is_spread_over_the_folds_within_one_sample(options, request):
    options = request.getfixturevalue(options) if isinstance(options, str) else options
    counts = np.array([np.bincount(fold.val.y, minlength=3) for fold in folds_of(options)])
    assert (counts.max(0) - counts.min(0) <= 1).all()
    sizes = counts.sum(1)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("options", [{"name": "digits", "limit": 200}, {"name": "diabetes"}, "patients"])
def test_the_same_seed_gives_the_same_folds(options, request):
    options = request.getfixturevalue(options) if isinstance(options, str) else options
    first, again, other = folds_of(options, 5), folds_of(options, 5), folds_of(options, 6)
    assert [hashes(fold.val) for fold in first] == [hashes(fold.val) for fold in again]
    assert [hashes(fold.train) for fold in first] == [hashes(fold.train) for fold in again]
    assert [hashes(fold.val) for fold in first] != [hashes(fold.val) for fold in other]


def test_each_fold_is_preprocessed_by_its_own_training_part(patients):
    for fold in folds_of({"name": "digits", "limit": 200}):
        assert fold.preprocess["mean"] == pytest.approx([(fold.train.x / 255).mean()])
    for fold in folds_of({"name": "diabetes"}):
        assert abs(fold.train.x.mean(0)).max() < 1e-5
        assert fold.preprocess["target_mean"] == pytest.approx(fold.train.y.mean(), rel=1e-5)
    for fold in folds_of(patients):
        assert abs(fold.train.x.mean(0)).max() < 1e-5
    assert len({fold.preprocess["columns"][0]["mean"] for fold in folds_of(patients)}) == FOLDS


def test_the_number_of_folds_is_the_calls_or_else_the_sweeps():
    sweeps = data.load({"name": "wine", "folds": FOLDS}, 0, fold=1)
    assert hashes(sweeps.val) == hashes(data.load({"name": "wine"}, 0, fold=1, folds=FOLDS).val)
    assert hashes(sweeps.val) == hashes(data.load({"name": "wine", "folds": 7}, 0, fold=1, folds=FOLDS).val)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"fold": 0}, r"0 <= fold < folds must hold, but got \(fold 0, folds None\)"),
        ({"fold": 4, "folds": 4}, "0 <= fold < folds must hold"),
        ({"fold": 0, "folds": 1}, "a whole number of at least 2"),
        ({"fold": 0, "folds": 2, "whole": True}, r"has no fold, but got \(fold=0\)"),
    ],
)
def test_a_fold_that_there_is_not_is_refused(keywords, message):
    with pytest.raises(DataError, match=message):
        data.load({"name": "wine"}, 0, **keywords)
