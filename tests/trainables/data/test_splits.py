"""Which rows are train, val and test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.options import Options, parse
from trainables.data.splits import Pool, Rows, split
from tuner.errors import DataError

ROOT = Path(__file__).parents[3]
QUIET = settings(deadline=None, derandomize=True, max_examples=40)


def options(**keys) -> Options:
    return Options(name="digits", **keys)


def classes(*sizes: int) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def parts(rows: Rows) -> list[set[int]]:
    return [set(part.tolist()) for part in (rows.train, rows.val, rows.test)]


def disjoint(rows: Rows) -> bool:
    return len(set.union(*parts(rows))) == len(rows.train) + len(rows.val) + len(rows.test)


def same(a: Rows, b: Rows) -> bool:
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("train", "val", "test"))


def test_split_sizes_are_the_fractions_of_all_samples_each_class_in_proportion():
    strata = classes(600, 300, 100)
    rows = split(Pool(strata), options(), seed=0)
    assert disjoint(rows)
    assert np.bincount(strata[rows.train]).tolist() == [360, 180, 60]
    assert np.bincount(strata[rows.val]).tolist() == [120, 60, 20]
    assert np.bincount(strata[rows.test]).tolist() == [120, 60, 20]


def test_same_seed_same_split_and_another_seed_another():
    pool = Pool(classes(50, 50))
    assert same(split(pool, options(), 3), split(pool, options(), 3))
    assert not same(split(pool, options(), 3), split(pool, options(), 4))


def test_split_is_the_same_in_another_process():
    # Hash randomisation or a changed random stream would move rows between train and test on a resume.
    code = (
        "from trainables.data.options import Options; from trainables.data.splits import Pool, split;"
        "import numpy as np; r = split(Pool(np.arange(20) % 2), Options(name='digits'), -7);"
        "print(r.train.tolist(), r.val.tolist(), r.test.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = split(Pool(np.arange(20) % 2), options(), -7)
    assert done.stdout.strip() == f"{rows.train.tolist()} {rows.val.tolist()} {rows.test.tolist()}"


def test_split_of_a_seed_never_changes():
    # Written down once: a change here would leak test rows of old runs into train.
    rows = split(Pool(np.arange(20) % 2), options(), 0)
    assert sorted(rows.test.tolist()) == [4, 7, 14, 19]
    assert sorted(rows.val.tolist()) == [6, 9, 10, 17]


def test_val_fraction_and_folds_do_not_move_the_test_rows():
    pool = Pool(classes(40, 60, 7))
    test = set(split(pool, options(), 5).test.tolist())
    assert set(split(pool, options(val_fraction=0.5), 5).test.tolist()) == test
    for fold in range(4):
        assert set(split(pool, options(folds=4), 5, fold).test.tolist()) == test


def test_train_is_in_a_random_order():
    # A trainable measures itself on the first rows of train: they must not be all of one class.
    strata = classes(100, 100)
    first = strata[split(Pool(strata), options(), 0).train[:40]]
    assert 10 < first.sum() < 30


@QUIET
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6).filter(lambda sizes: sum(sizes) >= 12),
    seed=st.integers(0, 2**63 - 1),
)
def test_classes_of_one_or_two_samples_stay_in_train(sizes, seed):
    strata = classes(*sizes)
    try:
        rows = split(Pool(strata), options(), seed)
    except DataError as error:
        # Only where nearly every class has one sample, so that none can be spared.
        assert "would be empty" in str(error) and sum(sizes) - len(sizes) < 0.5 * sum(sizes)
        return
    assert disjoint(rows) and len(set.union(*parts(rows))) == len(strata)
    assert set(strata[rows.train]) == set(range(len(sizes)))


@QUIET
@given(
    sizes=st.lists(st.integers(3, 12), min_size=6, max_size=12),
    seed=st.integers(0, 1000),
    folds=st.sampled_from([None, 2, 3]),
)
def test_rows_of_a_group_stay_in_one_split(sizes, seed, folds):
    groups = np.random.RandomState(seed).permutation(classes(*sizes))
    pool = Pool(np.arange(len(groups)) % 3, groups)
    rows = split(pool, options(folds=folds), seed, None if folds is None else 0)
    assert disjoint(rows)
    owners = [set(groups[part]) for part in (rows.train, rows.val, rows.test)]
    assert sum(map(len, owners)) == len(set.union(*owners))


def test_groups_come_near_the_fractions_and_the_class_balance():
    groups = np.repeat(np.arange(100), 10)
    strata = (groups % 4 == 0).astype(np.int64)
    rows = split(Pool(strata, groups), options(), 0)
    assert [len(rows.train), len(rows.val), len(rows.test)] == [600, 200, 200]
    assert strata[rows.val].mean() == strata[rows.test].mean() == 0.25


def test_few_large_groups_still_give_each_split_one():
    groups = np.repeat(np.arange(3), 30)
    rows = split(Pool(np.arange(90) % 2, groups), options(), 1)
    assert [len(rows.train), len(rows.val), len(rows.test)] == [30, 30, 30]


def test_too_few_groups_is_an_error():
    with pytest.raises(DataError, match="the validation split would be empty"):
        split(Pool(np.arange(60) % 2, np.repeat([0, 1], 30)), options(), 1)


@pytest.mark.parametrize("own_test", [False, True])
def test_folds_cover_everything_outside_test_once_and_are_stratified(own_test):
    strata = classes(40, 60, 20)
    pool = Pool(strata, own_test=own_test)
    folds = [split(pool, options(folds=4), 9, fold) for fold in range(4)]
    seen = np.concatenate([rows.val for rows in folds])
    outside = 120 if own_test else 96
    assert len(seen) == len(set(seen.tolist())) == outside
    for rows in folds:
        assert disjoint(rows) and len(rows.train) + len(rows.val) == outside
        expected = np.bincount(strata[seen]) / 4
        assert (np.abs(np.bincount(strata[rows.val], minlength=3) - expected) < 1).all()


def test_a_class_of_one_sample_is_in_the_train_of_every_fold():
    strata = classes(20, 20, 1)
    for fold in range(5):
        rows = split(Pool(strata), options(folds=5), 0, fold)
        assert set(strata[rows.train]) == {0, 1, 2}


def test_group_folds_are_even_and_cover_all_groups():
    groups = np.repeat(np.arange(30), np.arange(1, 31))
    pool = Pool((groups % 2).astype(np.int64), groups, own_test=True)
    folds = [split(pool, options(folds=3), 0, fold) for fold in range(3)]
    sizes = [len(rows.val) for rows in folds]
    assert sum(sizes) == len(groups) and max(sizes) - min(sizes) <= 3


@pytest.mark.parametrize(("keys", "fold"), [({}, 0), ({"folds": 3}, 3), ({"folds": 3}, -1), ({"folds": 50}, 0)])
def test_a_fold_that_there_is_not_is_an_error(keys, fold):
    with pytest.raises(DataError, match=r"data\.folds"):
        split(Pool(classes(10, 10)), options(**keys), 0, fold)


def test_limit_is_stratified_and_before_splitting():
    strata = classes(500, 300, 200)
    rows = split(Pool(strata), options(limit=100), 0)
    assert disjoint(rows)
    assert np.bincount(strata[np.concatenate([rows.train, rows.val, rows.test])]).tolist() == [50, 30, 20]
    assert len(rows.test) == len(rows.val) == 20


def test_limit_above_the_size_takes_everything():
    assert len(split(Pool(classes(10, 10)), options(limit=1000), 0).train) == 12


def test_limit_below_the_number_of_classes_is_an_error():
    with pytest.raises(DataError, match=r"data\.limit: must leave a sample of each class, but got \(2\)"):
        split(Pool(classes(10, 10, 10)), options(limit=2), 0)


def test_own_validation_rows_are_taken_at_their_word():
    own_val = np.arange(100) >= 70
    rows = split(Pool(np.arange(100) % 2, own_val=own_val), options(), 0)
    assert sorted(rows.val) == list(range(70, 100))
    # The missing test split is carved from the set's own train rows.
    assert len(rows.test) == 14 and max(rows.test) < 70


def test_own_test_leaves_all_rows_to_train_and_val():
    rows = split(Pool(classes(50, 50), own_test=True), options(test_fraction=0.9), 0)
    assert (len(rows.train), len(rows.val), len(rows.test)) == (80, 20, 0)


def test_test_fraction_zero_makes_no_test_split():
    rows = split(Pool(classes(50, 50)), options(test_fraction=0.0), 0)
    assert (len(rows.train), len(rows.val), len(rows.test)) == (80, 20, 0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"test_fraction": 0.5, "val_fraction": 0.5}, r"test_fraction \+ val_fraction < 1 must hold"),
        ({"val_fraction": 0.001}, "the validation split would be empty"),
        ({"test_fraction": 0.001}, "the test split would be empty"),
    ],
)
def test_fractions_that_leave_nothing_are_errors(keys, message):
    with pytest.raises(DataError, match=message):
        split(Pool(classes(10, 10)), options(**keys), 0)


def test_options_report_every_mistake_at_once():
    table = {
        "name": "digitz",
        "val_fraction": 1,
        "limit": True,
        "folds": 1,
        "on_corrupt": "ignore",
        "download": "yes",
        "drop": "id",
        "valfraction": 0.1,
    }
    with pytest.raises(DataError) as caught:
        parse(table, ("digits", "table"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 8
    assert lines[0] == "data.name: must name a data set, but got ('digitz'). Did you mean \"digits\"?"
    assert 'data.valfraction: unknown key. Did you mean "val_fraction"?' in lines
    assert "data.val_fraction: 0 < val_fraction < 1 must hold, but got (1)." in lines


def test_an_option_that_would_be_ignored_is_an_error():
    with pytest.raises(DataError, match=r'data\.target: does not apply to "digits"'):
        parse({"name": "digits", "target": "x"}, ("digits",))


def test_none_means_left_out(monkeypatch):
    monkeypatch.setenv("TUNER_DATA", "somewhere")
    parsed = parse({"name": "digits", "val_fraction": None, "root": None, "drop": None}, ("digits",))
    assert parsed == options(root=Path("somewhere"))
