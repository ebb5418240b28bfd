"""What every built-in trainable must hold: inherit TrainableConformance, name the trainable."""

from __future__ import annotations

import functools
import importlib
import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from trainables.alone import Alone
from trainables.data import load
from trainables.parameters import DEFAULTS, PARAMETERS, names
from tuner.errors import ConfigError
from tuner.trainable import DataInfo, StopTrial

# Bit-identical results are promised with one thread; and more of them get in each other's way on a shared machine.
torch.set_num_threads(1)

TRAIN = {"epoch", "train_loss", "train_accuracy", "start_loss", "learning_rate", "epoch_s"}
VAL = {"loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc"}
EVERY_METRIC = TRAIN | {f"val_{name}" for name in VAL}

OTHER_VALUES = {
    "lr_schedule": ["step", "exponential", "one_cycle", "plateau", "constant", [[1, 0.1], [2, 0.01]]],
    "image_size": [6, 16],
    "l1": [1e-4],
    "label_smoothing": [0.1],
    "dropout": [0.0, 0.5],
    "warmup_epochs": [0.5, 5],
    "dense_layers": [0, 3],
    "conv_layers": [1, 3],
    "kernel_size": [1, 2, 5],
    "blocks": [2],
    "batch_norm": [True, False],
    "batch_size": [2, 7, 1000],
}


@functools.cache
def digits(limit):
    return load({"name": "digits", "limit": limit}, seed=0)


def curve(trial):
    """What a trial reported, but for the time it took."""
    return [{k: v for k, v in row.items() if k != "epoch_s"} for row in trial.reports]


def every_option(trainable):
    """One config for every option of every choice, and for other values that take another path."""
    for name in names(trainable):
        for value in [*PARAMETERS[name].options, *OTHER_VALUES.get(name, [])]:
            yield pytest.param({name: value}, id=f"{name}={value}")


class TrainableConformance:
    trainable: str
    small: ClassVar[dict] = {}
    """Makes its models small, so that the suite is quick."""
    eventful: ClassVar[dict] = {"dropout": 0.3, "lr_schedule": "plateau", "plateau_patience": 0, "batch_size": 32}
    """A config that draws on everything random and everything stateful."""

    @property
    def module(self):
        return importlib.import_module(f"trainables.{self.trainable}")

    def run(self, config, limit=200, **trial):
        """Train a config, alone."""
        alone = Alone(digits(limit), **trial)
        self.module.train({**self.small, **config}, alone)
        return alone

    def test_it_offers_its_baseline_and_its_shape_parameters(self):
        assert DEFAULTS[self.trainable] == self.module.DEFAULTS
        assert set(self.module.SHAPE) <= set(names(self.trainable))

    def test_it_reports_every_metric_of_every_epoch(self):
        trial = self.run({}, max_epochs=2)
        assert [row["epoch"] for row in trial.reports] == [1, 2]
        for row in trial.reports:
            assert set(row) == EVERY_METRIC
            assert all(isinstance(row[name], float) for name in EVERY_METRIC - {"epoch"})

    def test_the_loss_before_the_first_step_is_that_of_the_untrained_model(self):
        slow, fast = (self.run({"learning_rate": rate}, max_epochs=2) for rate in (1e-6, 0.1))
        told = {row["start_loss"] for trial in (slow, fast) for row in trial.reports}
        # Of the weights alone: the same whatever the rate, in every row; and nearly a guess's.
        (start,) = told
        assert start == pytest.approx(np.log(10), abs=1.5)
        assert fast.reports[0]["train_loss"] != start

    def test_predictions_are_probabilities_that_agree_with_the_metrics(self):
        trial = self.run({}, max_epochs=1)
        predictions, val = trial.predictions[0], trial.data.val
        assert predictions.dtype == np.float32 and predictions.shape == (len(val), 10)
        np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-5)
        # Predictions stand in the order of the validation split.
        assert (predictions.argmax(axis=1) == val.y).mean() == pytest.approx(trial.reports[0]["val_accuracy"])

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_a_resumed_trial_goes_on_bit_for_bit(self, epoch):
        whole = self.run(self.eventful, max_epochs=3)
        again = whole.resumed(epoch)
        self.module.train({**self.small, **self.eventful}, again)
        assert curve(again) == curve(whole)[epoch:]
        assert np.array_equal(again.predictions[-1], whole.predictions[-1])
        # Not only the metrics: the weights too.
        assert again.saved[-1] == whole.saved[-1]

    def test_the_seed_decides_and_nothing_else(self):
        first, other = (self.run(self.eventful, max_epochs=1, seed=seed) for seed in (1, 2))
        torch.rand(5)
        assert curve(self.run(self.eventful, max_epochs=1, seed=1)) == curve(first)
        assert curve(other) != curve(first)

    def test_without_a_validation_split_only_training_is_measured(self):
        whole = load({"name": "digits", "limit": 200}, seed=0, whole=True)
        trial = Alone(whole, max_epochs=2)
        self.module.train({**self.small, **self.eventful}, trial)
        assert whole.val is None
        for row in trial.reports:
            assert set(row) == TRAIN and all(math.isfinite(value) for value in row.values())
        assert trial.predictions == [None, None]
        # What plateau sees instead, the training loss, survives a resume too.
        again = trial.resumed(1)
        self.module.train({**self.small, **self.eventful}, again)
        assert again.saved[-1] == trial.saved[-1]

    def test_it_trains_no_longer_than_either_limit(self):
        assert len(self.run({"epochs": 1}, max_epochs=2).reports) == 1
        assert len(self.run({"epochs": 5}, max_epochs=2).reports) == 2

    def test_it_lets_a_stop_pass(self):
        trial = Alone(digits(200), max_epochs=3, stop_after=1)
        with pytest.raises(StopTrial):
            self.module.train(dict(self.small), trial)
        assert len(trial.reports) == 1

    def test_it_builds_on_meta_tensors_from_a_description(self):
        info = DataInfo("x", "classification", (1, 8, 8), ("a", "b", "c"))
        with torch.device("meta"):
            model = self.module.build({}, info)
            assert model(torch.empty(4, 1, 8, 8)).shape == (4, 3)
        assert all(p.is_meta for p in model.parameters())

    def test_a_diverged_trial_reports_nan_and_goes_on(self):
        trial = self.run({"learning_rate": 1e30, "lr_schedule": "constant"}, max_epochs=2)
        assert math.isnan(trial.reports[-1]["train_loss"]) and math.isnan(trial.reports[-1]["val_accuracy"])

    def test_it_refuses_what_no_parameter_may_be_all_at_once(self):
        with pytest.raises(ConfigError) as refused:
            self.module.build({"learning_rat": 0.1, "dropout": 1.0}, digits(200))
        assert "learning_rat is not a parameter" in str(refused.value) and '"learning_rate"' in str(refused.value)
        assert "dropout: 0 <= dropout < 1 must hold, but got (1.0)" in str(refused.value)

    def pytest_generate_tests(self, metafunc):
        if "option" in metafunc.fixturenames:
            metafunc.parametrize("option", list(every_option(self.trainable)))

    def test_every_option_trains(self, option):
        trial = self.run(option, limit=100, max_epochs=1)
        assert math.isfinite(trial.reports[0]["train_loss"])
