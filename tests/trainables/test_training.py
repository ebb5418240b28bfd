from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance_trainables import curve, digits
from torch import Generator

from trainables import cnn, mlp, resnet
from trainables.alone import Alone, main
from trainables.augment import augment
from trainables.inputs import Preparation, batches, derive, steps
from trainables.parameters import PARAMETERS, complete
from trainables.samples import Samples
from trainables.training import Learner, class_weights, score, training_subset
from tuner.errors import ConfigError, DataError
from tuner.trainable import Data, DataInfo, Split

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
EVENTFUL = {"filters": 4, "dense_units": 16, "augment": "flip_crop", "dropout": 0.3, "lr_schedule": "one_cycle"}


def pictures(n=40, side=16, channels=3):
    """Random images of two classes, without a black pixel, read-only as shared ones are."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, 256, (n, channels, side, side), dtype=np.uint8)
    x.flags.writeable = False
    return Split(x, rng.integers(0, 2, n))


def noise(val=True):
    train = pictures()
    sets = {"train": train, "val": train if val else None}
    return Data("noise", "classification", train.x.shape[1:], ("a", "b"), **sets)


def draws(count, seed=0):
    return torch.rand(count, 3, generator=Generator().manual_seed(seed))


# The whole loop


def test_the_baseline_learns_digits():
    trial = Alone(digits(None), max_epochs=6)
    cnn.train({"filters": 16}, trial)
    assert trial.reports[-1]["val_accuracy"] > 0.96


def test_another_process_gives_the_same_metrics():
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/trainables']\n"
        "from test_training import eventful_curve; print(eventful_curve())"
    )
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(eventful_curve())


def eventful_curve():
    trial = Alone(noise(), max_epochs=2)
    cnn.train(EVENTFUL, trial)
    return curve(trial)


def test_the_state_is_tensors_and_plain_values_and_holds_the_model():
    trial = Alone(noise(), max_epochs=1)
    cnn.train({**EVENTFUL, "optimizer": "adam"}, trial)
    state = trial.resumed(1).state  # loaded with weights_only=True
    assert set(state) == {"model", "optimizer", "schedule", "start_loss"}
    cnn.build(EVENTFUL, trial.data).load_state_dict(state["model"])


def test_a_trial_without_data_is_refused():
    with pytest.raises(DataError, match=r"add a \[data\] table"):
        mlp.train({}, Alone(None))


def test_the_caller_of_torch_keeps_its_data():
    before = pictures().x.copy()
    data = noise()
    cnn.train({**EVENTFUL, "image_size": 8}, Alone(data, max_epochs=1))
    assert np.array_equal(data.train.x, before)


def test_the_command_line_trains_for_a_moment(capsys):
    main("cnn", cnn.train, ["--smoke"])
    printed = capsys.readouterr().out
    assert [line.split()[:2] for line in printed.splitlines()] == [["epoch", "1"], ["epoch", "2"]]
    assert "val_accuracy" in printed


# What is measured


def test_training_is_measured_on_a_fixed_subset_of_validations_size():
    data = digits(None)
    subset = training_subset(data, seed=1, device=CPU)
    assert len(set(subset.tolist())) == len(data.val)
    assert torch.equal(subset, training_subset(data, seed=1, device=CPU))
    assert not torch.equal(subset, training_subset(data, seed=2, device=CPU))


def test_smoothing_weights_and_penalties_are_in_no_metric():
    data = digits(200)
    measured = []
    for config in ({}, {"label_smoothing": 0.3, "class_weights": "balanced", "l1": 1.0, "augment": "flip"}):
        learner = Learner(cnn.build, complete("cnn", config), data, 1, seed=0, device=CPU)
        measured.append(learner.measure()[0])
    # The same weights, for nothing was trained: the same figures.
    assert measured[0] == measured[1]


def test_training_and_validation_are_measured_alike():
    data = digits(200)
    twice = Data(data.name, data.task, data.shape, data.classes, train=data.val, val=data.val, preprocess={})
    learner = Learner(cnn.build, complete("cnn", {"dropout": 0.5}), twice, 1, seed=0, device=CPU)
    learner.train_epoch(1)
    measured, _ = learner.measure()
    assert measured["train_loss"] == pytest.approx(measured["val_loss"], rel=1e-6)


# Batches


@pytest.mark.parametrize(("samples", "batch_size", "sizes"), [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (3, 8, [3])])
def test_the_last_batch_is_smaller_but_never_a_single_sample(samples, batch_size, sizes):
    parts = batches(torch.randperm(samples), batch_size)
    assert [len(part) for part in parts] == sizes
    assert steps(samples, batch_size) == len(sizes)


def test_batches_of_one_are_whole_epochs_too():
    assert steps(5, batch_size=1) == 5
    with pytest.raises(ConfigError, match="Use 2 or more"):
        cnn.train({"batch_size": 1}, Alone(noise()))
    cnn.train({"batch_size": 1, "batch_norm": False, "filters": 2}, Alone(noise(), max_epochs=1))


def test_samples_share_the_arrays_memory():
    split = pictures()
    assert Samples(split, CPU).x.data_ptr() == split.x.ctypes.data


def test_images_are_normalised_by_channel():
    split = pictures(n=200)
    pixels = split.x / 255
    statistics = {"mean": pixels.mean((0, 2, 3)).tolist(), "std": pixels.std((0, 2, 3)).tolist()}
    info = DataInfo("x", "classification", (3, 16, 16), ("a", "b"))
    batch = Preparation({}, info, statistics, CPU)(torch.tensor(split.x))
    assert batch.mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-5)
    assert batch.std((0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, abs=1e-5)


def test_image_size_resizes_each_batch():
    info = DataInfo("x", "classification", (3, 16, 16), ("a", "b"))
    resized = Preparation({"image_size": 6}, info, {}, CPU)(torch.tensor(pictures().x))
    assert resized.shape == (40, 3, 6, 6) and resized.min() > 0 and resized.max() <= 1


def test_seeds_follow_from_their_parts():
    assert derive(1, "order", 2) == derive(1, "order", 2)
    assert len({derive(1, "order", 2), derive(1, "order", 3), derive(2, "order", 2), derive(1, "x", 2)}) == 4


# Augmentation


def test_flip_mirrors_about_half_of_the_images():
    x = torch.tensor(pictures(n=200).x)
    flipped = augment(x, "flip", draws(200))
    mirrored = (flipped == x.flip(3)).flatten(1).all(1)
    assert ((flipped == x).flatten(1).all(1) ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_crop_moves_each_image_by_up_to_an_eighth():
    x = torch.tensor(pictures(n=100).x)
    shifts = set()
    for before, after in zip(x, augment(x, "crop", draws(100)), strict=True):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        windows = {(i, j): padded[:, i : i + 16, j : j + 16] for i in range(5) for j in range(5)}
        shifts |= {place for place, window in windows.items() if torch.equal(window, after)}
    # A hundred images reach nearly all of the 25 shifts, and each is one of them.
    assert len(shifts) > 20


def test_cutout_blacks_out_one_square_in_all_channels():
    x = torch.tensor(pictures(n=50).x)
    cut = augment(x, "cutout", draws(50))
    black = cut == 0
    assert torch.equal(black.all(1), black.any(1))
    assert torch.equal(cut[~black], x[~black])
    # A square of 8x8, of which the border may cut off three quarters.
    areas = black[:, 0].flatten(1).sum(1)
    assert areas.min() >= 16 and areas.max() == 64


def test_augmentation_follows_its_draws_image_by_image():
    x, given = torch.tensor(pictures().x), draws(40, 1)
    for how in PARAMETERS["augment"].options:
        changed = augment(x, how, given)
        assert torch.equal(changed[7:9], augment(x[7:9], how, given[7:9]))
    assert not torch.equal(augment(x, "crop", given), augment(x, "crop", draws(40, 2)))
    assert augment(x, "none", None) is x


def test_the_largest_draw_stays_within_the_image():
    x = torch.tensor(pictures().x)
    for how in PARAMETERS["augment"].options:
        assert augment(x, how, torch.full((40, 3), 1 - 2**-24)).shape == x.shape


# What the optimizer sees


def test_l1_drives_weights_towards_zero():
    sizes = []
    for l1 in (0.0, 0.01):
        trial = Alone(digits(200), max_epochs=2)
        mlp.train({"l1": l1, "dense_layers": 1, "weight_decay": 0.0, "batch_size": 8}, trial)
        model = trial.resumed(2).state["model"]
        sizes.append(sum(w.abs().sum() for w in model.values() if w.ndim == 2))
    assert sizes[1] < 0.7 * sizes[0]


def test_balanced_weights_give_every_class_the_same_say():
    y = np.array([0, 0, 0, 1])
    split = Split(np.zeros((4, 2), np.float32), y)
    data = Data("x", "classification", (2,), ("a", "b", "never"), train=split, val=None)
    weights = class_weights(data, {"class_weights": "balanced"}, CPU)
    assert weights[0] * 3 == pytest.approx(weights[1].item() * 1)
    assert torch.isfinite(weights).all()
    assert class_weights(data, {"class_weights": "none"}, CPU) is None


# Precision


@pytest.mark.parametrize("trainable", [cnn, resnet])
def test_bf16_reaches_the_models_numbers_and_nothing_that_is_kept(trainable):
    config, kept = {"filters": 4}, {}
    for precision in ("fp32", "bf16"):
        trial = Alone(digits(200), max_epochs=1, precision=precision)
        trainable.train(config, trial)
        kept[precision] = torch.load(io.BytesIO(trial.saved[0]), weights_only=True), trial
    state, trial = kept["bf16"]
    tensors = [*state["model"].values(), *tensors_of(state["optimizer"])]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}
    assert trial.predictions[0].dtype == np.float32
    # Rounded to 8 bits on the way, so not the same, and not far off.
    first, second = (kept[name][1].reports[0]["start_loss"] for name in ("fp32", "bf16"))
    assert first != second
    assert first == pytest.approx(second, rel=0.02)
    assert trial.predictions[0].sum(axis=1) == pytest.approx(1, abs=1e-6)  # softmax is in float32


def tensors_of(state):
    return [value for value in state.values() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_is_taken_in_float32(precision):
    data = noise()
    learner = Learner(cnn.build, complete("cnn", {"filters": 4}), data, 1, 0, CPU, precision)
    seen = []
    learner._loss = lambda outputs, y: seen.append(outputs.dtype) or torch.nn.functional.cross_entropy(outputs, y)
    learner.train_epoch(1)
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_score_is_taken_as_it_was_trained(precision):
    data, config = digits(200), complete("cnn", {"filters": 4})
    trial = Alone(data, max_epochs=1, precision=precision)
    cnn.train(config, trial)
    state = torch.load(io.BytesIO(trial.saved[0]), weights_only=True)
    found, predictions = score(cnn.build, config, data, state, trial.seed, precision=precision)
    # The validation split again: the very numbers that were reported.
    assert found == {name: value for name, value in trial.reports[0].items() if name in found}
    assert np.array_equal(predictions, trial.predictions[0])


def test_bf16_goes_on_bit_for_bit():
    whole = Alone(digits(200), max_epochs=3, precision="bf16")
    cnn.train(EVENTFUL, whole)
    again = whole.resumed(1)
    cnn.train(EVENTFUL, again)
    assert curve(again) == curve(whole)[1:]
