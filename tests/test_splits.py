from __future__ import annotations

import dataclasses
import functools
import weakref

import numpy as np
import pytest

import tuner
from trainables import data as trainables_data
from tuner.drive import Watch
from tuner.errors import DataError, SweepFailed
from tuner.splits import Splits

DIGITS = {"name": "digits", "limit": 120, "folds": 2}


def of_digits():
    return Splits({fold: functools.partial(trainables_data.load, DIGITS, 3, fold, 2) for fold in range(2)})


def of_one(*loaded):
    """Splits whose load gives these, one after another."""
    left = iter(loaded)
    return Splits({None: lambda: next(left)})


def test_what_was_released_is_gone_and_loaded_again_to_the_last_bit():
    splits = of_digits()
    first = splits.get(1)
    kept, images = first.train.x.copy(), weakref.ref(first.train.x)
    assert splits.get(1) is first
    del first
    splits.release()
    assert images() is None
    assert np.array_equal(splits.get(1).train.x, kept)


def test_what_is_known_of_them_outlives_the_arrays():
    splits = of_one(trainables_data.load(DIGITS, 3))  # a second load would raise StopIteration
    splits.get(None)
    splits.release()
    assert (splits.info.shape, splits.info.outputs, splits.info.n_train > 0) == ((1, 8, 8), 10, True)
    assert len(splits.preprocess["mean"]) == 1


def test_what_is_known_is_of_the_first_fold_and_loaded_for_it():
    assert of_digits().info.n_train == len(trainables_data.load(DIGITS, 3, 0, 2).train)


def test_there_is_nothing_without_data_and_no_fold_but_those():
    assert (Splits().folds, Splits().get(None), Splits().info, Splits().preprocess) == ((), None, None, None)
    assert of_digits().get(None) is None


def test_data_that_changed_meanwhile_is_refused():
    before = trainables_data.load(DIGITS, 3)
    splits = of_one(before, before, dataclasses.replace(before, preprocess={"mean": [0.5], "std": [1.0]}))
    for _ in range(2):  # nan is nan, and the same data the same
        splits.get(None)
        splits.release()
    with pytest.raises(DataError, match="data digits: it must stay as it is while a sweep is at work"):
        splits.get(None)


def reads(config, trial):
    trial.report(epoch=1, score=float(trial.data.train.x.sum()) * config["x"])


def test_data_that_is_gone_in_the_middle_ends_a_study_in_a_sentence(tmp_path, monkeypatch):
    load = trainables_data.load

    def gone(options, seed, fold=None, *more, **named):
        if fold is not None:
            raise DataError("data.path: it must be a folder, but there is none.")
        return load(options, seed, fold, *more, **named)

    monkeypatch.setattr(trainables_data, "load", gone)
    events = []
    sweep = tuner.Sweep(
        trainable=reads,
        data=DIGITS,
        space={"x": tuner.Uniform(0, 1)},
        defaults={"x": 0.5},
        metric="score",
        mode="max",
        max_epochs=1,
        search={"strategy": "random", "trials": 1},
        study={"stages": ("search", "cross_validate")},
    )
    with pytest.raises(SweepFailed, match=r"there is none\. What was done is saved; go on with: tuner resume"):
        tuner.study(sweep, storage=tmp_path, name="one", backend="inline", watch=Watch(on_event=events.append))
    assert events[-1].body["finished"] == "interrupted"
    monkeypatch.setattr(trainables_data, "load", load)
    results = tuner.resume(tmp_path / "one", trainable=reads, backend="inline")
    assert results.status == "completed"
