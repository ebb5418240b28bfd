"""A lane against the same trial alone.

TOLERANCE is what docs/architecture.md states: fp32, on one kind of machine. Random choices are the same bits; so are
initial weights. What differs is the order in which a stacked kernel adds.
"""

from __future__ import annotations

import functools
import importlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.alone import Alone
from trainables.data import load
from trainables.lanes import GROUP_PARAMETERS, LANE_PARAMETERS, Group, bytes_per_lane, key
from trainables.lanes.samples import Shared
from trainables.optimizers import Optimizer
from trainables.parameters import PARAMETERS, complete
from trainables.training import Learner
from tuner.trainable import Split

torch.set_num_threads(1)
ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
GRADIENT_TOLERANCE = 1e-5
"""Relative error of a step's gradients (2-norm of a trial's)."""
TOLERANCE = 1e-3
"""Relative error of metrics that are not counts, after 2 epochs; learning rates are exact."""
SMALL = {
    "cnn": {"filters": 4, "dense_units": 16, "batch_size": 32},
    "resnet": {"filters": 4, "batch_size": 32},
    "mlp": {"dense_units": 16, "batch_size": 32},
}
DIFFERENT = [
    {"learning_rate": 0.02, "momentum": 0.5},
    {"dropout": 0.4, "label_smoothing": 0.1, "weight_decay": 0.01, "lr_schedule": "one_cycle"},
    {"dropout": 0.0, "l1": 1e-3, "class_weights": "balanced", "lr_schedule": "step", "step_epochs": 1},
]
AUGMENTED = [{"augment": how} for how in PARAMETERS["augment"].options]


@functools.cache
def data(name="digits", limit=260):
    return load({"name": name, "limit": limit}, seed=0)


def module(trainable):
    return importlib.import_module(f"trainables.{trainable}")


def full(trainable, config):
    return complete(trainable, SMALL[trainable] | config)


def group(trainable, configs, *, of=None, epochs=2, first_seed=0):
    """A group with a lane a config, the seeds in order."""
    made = Group(module(trainable).build, CPU)
    for seed, config in enumerate(configs, first_seed):
        made.add(full(trainable, config), of or data(), epochs, seed)
    return made


def alone(trainable, config, *, of=None, epochs=2, seed=0):
    trial = Alone(of or data(), max_epochs=epochs, seed=seed)
    module(trainable).train(SMALL[trainable] | config, trial)
    return trial


def rows(made, epochs=2):
    """The metrics of each lane's epochs, lane by lane."""
    found = [made.train_epoch() for _ in range(epochs)]
    return [[row[lane].metrics for row in found] for lane in made.lanes]


def timeless(metrics):
    return {name: value for name, value in metrics.items() if name not in ("epoch", "epoch_s")}


def assert_near(metrics, reported, rel=TOLERANCE):
    """What a lane reports is what the lone trial did, under the same names."""
    assert set(metrics) == set(reported) - {"epoch"}
    for name in ("learning_rate", "start_loss"):
        assert metrics[name] == reported[name]
    for name, value in timeless(metrics).items():
        # A count may change by a sample where two classes are as good as equal.
        counts = name.split("_", 1)[1] not in ("loss", "rmse", "mae", "r2", "roc_auc", "rate")
        assert value == pytest.approx(reported[name], rel=rel, abs=0.04 if counts else 1e-6), name


# Equal to the lone trial


@pytest.mark.parametrize("optimizer", PARAMETERS["optimizer"].options)
def test_lanes_report_what_the_trials_would_alone(optimizer):
    configs = [{"optimizer": optimizer, **config} for config in DIFFERENT]
    if optimizer != "sgd":
        configs = [{**config, "learning_rate": 0.002} for config in configs]
    for seed, (config, found) in enumerate(zip(configs, rows(group("cnn", configs)), strict=True)):
        for metrics, reported in zip(found, alone("cnn", config, seed=seed).reports, strict=True):
            assert_near(metrics, reported)


@pytest.mark.parametrize(
    ("trainable", "shared", "name"),
    [
        ("resnet", {}, "digits"),
        ("mlp", {}, "diabetes"),
        ("mlp", {"batch_norm": False, "dense_layers": 0}, "wine"),
        ("mlp", {}, "digits"),
        ("cnn", {"image_size": 12, "pooling": "avg", "kernel_size": 2, "activation": "gelu"}, "digits"),
        ("cnn", {"batch_norm": False, "pooling": "stride", "activation": "tanh", "dense_layers": 0}, "digits"),
    ],
)
def test_every_trainable_and_kind_of_data(trainable, shared, name):
    configs = [shared | {"dropout": 0.3 * k, "learning_rate": 0.01 * (k + 1)} for k in range(2)]
    of = data(name, None if name != "digits" else 260)
    for seed, (config, found) in enumerate(zip(configs, rows(group(trainable, configs, of=of)), strict=True)):
        for metrics, reported in zip(found, alone(trainable, config, of=of, seed=seed).reports, strict=True):
            assert_near(metrics, reported)


def test_augmented_lanes_see_the_same_images():
    for seed, (config, found) in enumerate(zip(AUGMENTED, rows(group("cnn", AUGMENTED)), strict=True)):
        for metrics, reported in zip(found, alone("cnn", config, seed=seed).reports, strict=True):
            assert_near(metrics, reported)


def test_a_steps_gradients_are_the_lone_trials(monkeypatch):
    config = {"dropout": 0.3, "augment": "crop"}
    noted, collect = [], Optimizer.step

    def note(self, number):
        parts = [place.flattened(leaf.grad)[None] if leaf.grad.ndim == len(place.shape) else leaf.grad.flatten(1)
                 for place, leaf in zip(self.flat.places, self.flat.leaves, strict=True)]  # fmt: skip
        noted.append(torch.cat(parts, 1).clone())
        collect(self, number)

    monkeypatch.setattr(Optimizer, "step", note)
    group("cnn", [config] * 3).train_epoch()
    of_lanes, lone = list(noted), []
    for seed in range(3):
        noted.clear()
        Learner(module("cnn").build, full("cnn", config), data(), 2, seed, CPU).train_epoch(1)
        lone.append(torch.cat(noted))
    first = of_lanes[0]
    for lane in range(3):
        # At the first step the weights are the same bits; later ones differ by what the steps before added.
        error = (first[lane] - lone[lane][0]).norm() / lone[lane][0].norm()
        assert error < GRADIENT_TOLERANCE


def test_initial_weights_and_the_first_loss_are_the_same_bits():
    made = group("cnn", [{}, {}], first_seed=3)
    learner = Learner(module("cnn").build, full("cnn", {}), data(), 2, 4, CPU)
    state = made.state_dict(made.lanes[1])
    assert all(torch.equal(value, state["model"][name]) for name, value in learner.model.state_dict().items())
    assert state["start_loss"] == learner.start_loss()


def test_predictions_are_the_validation_splits():
    made = group("cnn", [{}, {"learning_rate": 0.01}])
    found = made.train_epoch()
    for seed, lane in enumerate(made.lanes):
        trial = alone("cnn", {"learning_rate": lane.course.config["learning_rate"]}, epochs=2, seed=seed)
        assert found[lane].predictions.dtype == np.float32
        np.testing.assert_allclose(found[lane].predictions, trial.predictions[0], rtol=1e-2, atol=1e-4)


# Joining, leaving, failing


def test_a_lane_that_diverges_disturbs_nobody():
    healthy = rows(group("cnn", [{}, {"dropout": 0.5}, {"learning_rate": 0.01}]))
    beside = rows(group("cnn", [{}, {"learning_rate": 1e30, "dropout": 0.5}, {"learning_rate": 0.01}]))
    assert not np.isfinite(beside[1][1]["train_loss"])
    for lane in (0, 2):
        assert [timeless(row) for row in healthy[lane]] == [timeless(row) for row in beside[lane]]


def test_lanes_join_late_and_leave_early_and_the_others_go_on():
    made = group("cnn", [{}, {"dropout": 0.5}], epochs=4)
    stays, leaves = made.lanes
    curve = [made.train_epoch()[stays]]
    made.remove(leaves)
    late = made.add(full("cnn", {"learning_rate": 0.01}), data(), 3, seed=7)
    late_curve = []
    for _ in range(3):
        found = made.train_epoch()
        curve.append(found[stays])
        late_curve.append(found[late])
    assert [row.epoch for row in curve] == [1, 2, 3, 4] and [row.epoch for row in late_curve] == [1, 2, 3]
    expected = alone("cnn", {}, epochs=4).reports
    expected_late = alone("cnn", {"learning_rate": 0.01}, epochs=3, seed=7).reports
    for row, reported in zip(curve + late_curve, expected + expected_late, strict=True):
        assert_near(row.metrics, reported)


def test_a_change_of_neighbours_loses_no_bit():
    made = group("cnn", [{"optimizer": "adam"}, {"optimizer": "adam"}], epochs=3)
    made.train_epoch()
    before = made.state_dict(made.lanes[1])
    made.remove(made.lanes[0])
    assert same(before, made.state_dict(made.lanes[0]))


def test_lanes_wait_for_their_own_turn_only():
    made = group("cnn", [{}], epochs=1)
    made.train_epoch()
    with pytest.raises(ValueError, match="epoch left"):
        made.train_epoch()


# In and out of a group


def stored(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.stride() == other.stride()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return one == other and type(one) is type(other)


def shapes(state):
    if isinstance(state, torch.Tensor):
        return tuple(state.shape), state.dtype
    return {name: shapes(value) for name, value in state.items()} if isinstance(state, dict) else type(state)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_lone_trial_goes_on_in_a_group_and_back(optimizer):
    config = {"optimizer": optimizer, "learning_rate": 0.005, "dropout": 0.3, "lr_schedule": "plateau"}
    whole = alone("cnn", config, epochs=3, seed=5)
    made = group("cnn", [{"optimizer": optimizer}], epochs=3)
    made.train_epoch()
    state = whole.resumed(1).state
    lane = made.add(full("cnn", config), data(), 3, 5, state, start_epoch=1)
    # What comes in goes out again, the same bits.
    assert same(state, stored(made.state_dict(lane)))
    row = made.train_epoch()[lane]
    assert row.epoch == 2
    assert_near(row.metrics, whole.reports[1])
    back = whole.resumed(2)
    assert shapes(back.state) == shapes(made.state_dict(lane))
    seen = "1.num_batches_tracked"
    assert back.state["model"][seen] == made.state_dict(lane)["model"][seen] > 0
    back.state = stored(made.state_dict(lane))
    module("cnn").train(SMALL["cnn"] | config, back)
    assert_near({k: v for k, v in back.reports[0].items() if k != "epoch"}, whole.reports[2])


def test_a_lanes_state_is_as_large_as_a_lone_trials():
    buffers = [io.BytesIO(), io.BytesIO()]
    made = group("cnn", [{}] * 8)
    made.train_epoch()
    torch.save(made.state_dict(made.lanes[0]), buffers[0])
    torch.save(alone("cnn", {}, epochs=1).resumed(1).state, buffers[1])
    # Rows of a group's buffers would take all lanes' with them.
    assert buffers[0].tell() == pytest.approx(buffers[1].tell(), rel=0.05)


# Folds


def test_folds_fuse_each_with_its_own_samples_and_normalisation():
    folds = [load({"name": "digits", "limit": 300}, seed=0, fold=fold, folds=4) for fold in range(4)]
    folds = [fold for fold in folds if key(full("cnn", {}), fold) == key(full("cnn", {}), folds[0])]
    assert len(folds) > 1
    made = Group(module("cnn").build, CPU)
    for fold in folds:
        made.add(full("cnn", {}), fold, 2, seed=0)
    for fold, found in zip(folds, rows(made), strict=True):
        for metrics, reported in zip(found, alone("cnn", {}, of=fold).reports, strict=True):
            assert_near(metrics, reported)


def test_splits_are_held_once_and_a_single_one_is_the_callers_memory():
    split, other = data().train, data().val
    shared = Shared(CPU)
    assert shared.place(split)[1] == 0
    again = Split(split.x.view(), split.y.view())
    assert shared.place(again)[1] == 0 and shared.x.data_ptr() == split.x.ctypes.data
    assert shared.place(other)[1] == len(split) and len(shared.x) == len(split) + len(other)
    shared.keep([other])
    assert shared.x.data_ptr() == other.x.ctypes.data


# What fuses


def test_every_parameter_is_a_groups_or_a_lanes():
    assert not set(GROUP_PARAMETERS) & set(LANE_PARAMETERS)
    assert set(GROUP_PARAMETERS) | set(LANE_PARAMETERS) == set(PARAMETERS)


@pytest.mark.parametrize("trainable", ["cnn", "resnet", "mlp"])
def test_all_that_changes_a_shape_is_in_the_key(trainable):
    assert set(module(trainable).SHAPE) <= set(GROUP_PARAMETERS)


def test_trials_of_another_shape_are_refused():
    made = group("cnn", [{}])
    for config, of in (({"filters": 8}, data()), ({"optimizer": "adam"}, data()), ({}, data("digits", 200))):
        with pytest.raises(ValueError, match="same key"):
            made.add(full("cnn", config), of, 2, 0)
    keys = {key(full(name, {}), data()) for name in ("cnn", "resnet", "mlp")}
    assert len(keys) == 3
    assert key(full("cnn", DIFFERENT[0]), data()) == key(full("cnn", DIFFERENT[1] | {"augment": "flip"}), data())


def test_the_estimate_of_a_lanes_memory_grows_with_what_takes_it():
    small, wide, long = (
        bytes_per_lane(module("cnn").build, full("cnn", config), data(), CPU)
        for config in ({}, {"dense_units": 4096}, {"batch_size": 256})
    )
    weights = 8 * 2 * 2 * (4096 - 16) * 4 * 4  # values, two of gradients, sgd's buffer; 32 inputs each
    assert wide - small > weights and long > 4 * small


def test_lanes_need_neither_torchs_compiler_nor_ray():
    code = (
        "import sys, torch\n"
        "from trainables import mlp; from trainables.data import load; from trainables.lanes import Group\n"
        "from trainables.parameters import complete\n"
        "group = Group(mlp.build, torch.device('cpu'))\n"
        "group.add(complete('mlp', {}), load({'name': 'wine'}, seed=0), 1, 0)\n"
        "group.train_epoch()\n"
        "sys.exit(' '.join(sorted({'torch._dynamo', 'torch._inductor', 'ray'} & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
