from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from conformance_trainables import TrainableConformance

from trainables import mlp
from trainables.alone import Alone
from trainables.training import target_scale
from tuner.trainable import Data, Split

REGRESSION = {"train_loss", "val_loss", "val_rmse", "val_mae", "val_r2"}


class TestMlp(TrainableConformance):
    trainable = "mlp"
    small: ClassVar = {"dense_units": 16}


def prices(n=300, **preprocess):
    """A linear target around 200,000, far from what an untrained model says."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = (200_000 + 30_000 * x @ np.array([1, -2, 0.5, 0])).astype(np.float32)
    train, val = Split(x[:200], y[:200]), Split(x[200:], y[200:])
    return Data("prices", "regression", (4,), train=train, val=val, preprocess=preprocess)


def test_a_regression_reports_its_metrics_in_the_targets_own_units():
    trial = Alone(prices(), max_epochs=15)
    mlp.train({"dropout": 0.0, "batch_size": 16}, trial)
    last = trial.reports[-1]
    assert set(last) == REGRESSION | {"epoch", "start_loss", "learning_rate", "epoch_s"}
    assert last["val_r2"] > 0.9
    assert trial.predictions[-1].shape == (100,) and trial.predictions[-1].dtype == np.float32
    error = trial.predictions[-1].astype(np.float64) - trial.data.val.y
    assert last["val_rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    assert last["val_loss"] == pytest.approx(last["val_rmse"] ** 2)


def test_the_targets_scale_is_taken_from_the_preprocessing():
    assert target_scale(prices(target_mean=5.0, target_std=2.0)) == (5.0, 2.0)
    # Without one, from the training split.
    y = prices().train.y
    assert target_scale(prices()) == pytest.approx((y.mean(), y.std()), rel=1e-5)


def test_balanced_class_weights_lift_the_rare_class():
    rng = np.random.default_rng(0)
    y = (rng.random(1200) < 0.05).astype(np.int64)
    x = (rng.normal(size=(1200, 3)) + y[:, None] * 0.8).astype(np.float32)
    train, val = Split(x[:800], y[:800]), Split(x[800:], y[800:])
    data = Data("rare", "classification", (3,), ("no", "yes"), train=train, val=val)
    recalls = {}
    for weights in ("none", "balanced"):
        trial = Alone(data, max_epochs=3)
        mlp.train({"class_weights": weights, "dense_units": 16}, trial)
        recalls[weights] = trial.reports[-1]["val_balanced_accuracy"]
    assert recalls["balanced"] > recalls["none"] + 0.1
