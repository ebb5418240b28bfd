"""Preflight: models built at the corners of a space, on no device, before anything starts."""

from __future__ import annotations

import textwrap

import pytest
import torch
from torch import nn

import tuner
from trainables import cnn
from tuner.preflight import MOST, check_config, known_data, preflight
from tuner.trainable import DataInfo

DIGITS = DataInfo("digits", "classification", (1, 8, 8), tuple("0123456789"), 1079, 359)


def cnn_sweep(space, **tables):
    """Return a sweep of the cnn on digits."""
    return tuner.Sweep(trainable="cnn", data={"name": "digits"}, space=space, **tables)


def test_collapsing_models_are_named_with_their_reason():
    found = preflight(cnn_sweep({"conv_layers": tuner.Int(1, 5), "learning_rate": tuner.LogUniform(1e-3, 1.0)}), DIGITS)
    assert (found.corners, found.checked) == (2, 2)
    assert [entry.config for entry in found.collapsed] == [{"conv_layers": 5}]
    assert "image 8x8" in found.collapsed[0].reason
    assert found.smallest == found.largest  # only the other corner has a model


def test_parameters_are_those_of_the_real_model():
    sweep = cnn_sweep({"filters": tuner.Choice([4, 16]), "dense_units": tuner.Int(8, 64)})
    found = preflight(sweep, DIGITS)
    smallest = cnn.build({"filters": 4, "dense_units": 8}, DIGITS)
    largest = cnn.build({"filters": 16, "dense_units": 64}, DIGITS)
    assert found.smallest.config == {"filters": 4, "dense_units": 8}
    assert found.smallest.parameters == sum(p.numel() for p in smallest.parameters())
    assert found.largest.parameters == sum(p.numel() for p in largest.parameters())


@pytest.mark.parametrize("trainable", ["cnn", "resnet", "mlp"])
def test_every_built_in_model_can_be_measured(trainable):
    sweep = tuner.Sweep(trainable=trainable, data={"name": "digits"}, space={"batch_size": 32})
    found = preflight(sweep, DIGITS)
    assert (found.skipped, found.collapsed, found.checked) == ("", (), 1)
    assert found.hungriest.memory_bytes > 4 * 3 * found.hungriest.parameters


def test_memory_grows_with_the_batch_and_the_optimizer():
    def memory(**values):
        return preflight(cnn_sweep({"filters": 8, **values}), DIGITS).hungriest.memory_bytes

    small = memory(batch_size=512, optimizer="sgd")
    weights = 4 * sum(p.numel() for p in cnn.build({"filters": 8}, DIGITS).parameters())
    assert memory(batch_size=512, optimizer="adam") == small + weights
    # Activations: twice the batch takes twice of them.
    activations = small - 3 * weights
    assert memory(batch_size=1024, optimizer="sgd") == pytest.approx(3 * weights + 2 * activations, rel=0.01)
    # The estimate is for the largest batch and optimizer that any config may have.
    assert memory(batch_size=tuner.Choice([512, 8]), optimizer=tuner.Choice(["sgd", "adam"])) == small + weights


def test_known_configs_are_built_instead_of_corners():
    sweep = cnn_sweep({"conv_layers": tuner.Int(1, 5, points=5)}, search={"strategy": "grid"})
    configs = [{"conv_layers": n} for n in (1, 2, 3, 4, 5)]
    found = preflight(sweep, DIGITS, configs)
    assert [entry.config["conv_layers"] for entry in found.collapsed] == [4, 5]


def test_search_points_are_built_too():
    space = {"conv_layers": tuner.Choice([1, 2]), "pooling": tuner.Choice(["max"])}
    sweep = tuner.Sweep(trainable="cnn", data={"name": "digits"}, space=space, search={"points": [{"conv_layers": 2}]})
    assert preflight(sweep, DIGITS, memory=False).checked == 2


def test_more_corners_than_the_most_are_sampled_and_counted():
    names = ["filters", "conv_layers", "kernel_size", "dense_layers", "dense_units", "image_size"]
    space = {name: tuner.Choice([1, 2, 3]) for name in names}
    found = preflight(cnn_sweep(space), DIGITS, memory=False)
    assert (found.corners, found.checked) == (3**6, MOST)
    assert found.hungriest is None


def test_branches_are_corners():
    pooling = tuner.Choice(["none", "max"], when={"max": {"conv_layers": tuner.Choice([1, 9])}})
    found = preflight(cnn_sweep({"pooling": pooling}), DIGITS, memory=False)
    assert found.checked == 3
    assert [entry.config for entry in found.collapsed] == [{"pooling": "max", "conv_layers": 9}]


def test_building_allocates_nothing_and_leaves_torch_as_it_was():
    state = torch.get_rng_state()
    # A trillion weights would not fit into any memory.
    sweep = cnn_sweep({"dense_units": 10**6, "dense_layers": 2})
    assert preflight(sweep, DIGITS).largest.parameters > 10**12
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.empty(1).device.type == "cpu"


def test_one_config_is_refused_with_the_trainable_s_own_words():
    sweep = cnn_sweep({"conv_layers": tuner.Int(1, 5)})
    assert check_config(sweep, DIGITS, {"conv_layers": 2}) is None
    assert "image 8x8" in check_config(sweep, DIGITS, {"conv_layers": 5})
    assert check_config(sweep, None, {"conv_layers": 5}) is None


def test_the_shape_of_a_missing_torchvision_set_is_known():
    cifar = known_data({"name": "cifar100"})
    assert (cifar.shape, cifar.outputs) == ((3, 32, 32), 100)
    assert known_data({"name": "mnist", "image_size": 14}).shape == (1, 14, 14)
    assert known_data({"name": "images"}).shape == (3, 64, 64)
    # Nobody knows the columns of a table that is not here.
    assert known_data({"name": "table"}) is None


# -- a user's own modules ----------------------------------------------------------------------------------------------


@pytest.fixture
def user_sweep(tmp_path):
    """Return a function that makes a sweep around a user's file."""

    def make(text, space):
        path = tmp_path / "mine.py"
        path.write_text("from torch import nn\ndef train(config, trial): ...\n" + textwrap.dedent(text))
        return tuner.Sweep(trainable=f"{path}:train", metric="loss", mode="min", data={"name": "digits"}, space=space)

    return make


WIDTHS = {"width": tuner.Int(2, 9), "lr": tuner.LogUniform(1e-3, 1.0)}


def test_a_user_s_build_is_used(user_sweep):
    sweep = user_sweep(
        """
        SHAPE = ("width",)
        def build(config, data):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, config["width"]), nn.Linear(config["width"], data.outputs))
        """,
        WIDTHS,
    )
    found = preflight(sweep, DIGITS)
    assert (found.checked, found.smallest.parameters) == (2, 65 * 2 + 3 * 10)


def test_without_shape_every_parameter_is_taken_to_its_ends(user_sweep):
    sweep = user_sweep("def build(config, data): return nn.Flatten()", WIDTHS)
    assert preflight(sweep, DIGITS).checked == 4


def test_a_model_that_collapses_only_in_use_is_found(user_sweep):
    sweep = user_sweep(
        """
        SHAPE = ("width",)
        def build(config, data):
            return nn.Sequential(nn.Conv2d(1, 4, config["width"]), nn.Flatten())
        """,
        WIDTHS,
    )
    found = preflight(sweep, DIGITS)
    assert [entry.config for entry in found.collapsed] == [{"width": 9}]
    assert "Kernel size" in found.collapsed[0].reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # Its own loop may flatten the batches first.
        ("def build(config, data): return nn.Linear(64, 10)", "does not fit"),
        # Its own loop may fill the config up first.
        ("def build(config, data): return nn.Linear(config['depth'], 10)", "KeyError"),
        ("def build(config, data): return nn.Linear(64, 10).weight.sum().item()", "cannot be built"),
        ("def build(config, data): return 'a model'", "returned a str"),
        ("def build(config, data): raise RuntimeError('No CUDA GPUs are available')", "cannot be built here"),
    ],
)
def test_what_cannot_be_told_is_no_fault_of_a_config(user_sweep, text, words):
    sweep = user_sweep(text, WIDTHS)
    found = preflight(sweep, DIGITS)
    assert words in found.skipped
    assert found.collapsed == ()
    assert check_config(sweep, DIGITS, {"width": 2}) is None


@pytest.mark.parametrize("text", ["", "def build(config): ...\n", "build = 3\n"])
def test_without_build_there_is_no_preflight(user_sweep, text):
    assert preflight(user_sweep(text, WIDTHS), DIGITS) is None


def test_a_file_without_build_is_not_run(user_sweep):
    assert preflight(user_sweep("raise SystemExit('a script')\n", WIDTHS), DIGITS) is None


def test_what_a_user_s_module_prints_stays_out_of_the_plan(user_sweep, capsys):
    text = "print('loading')\ndef build(config, data):\n    print('building')\n    return nn.Flatten()\n"
    preflight(user_sweep(text, WIDTHS), DIGITS)
    assert capsys.readouterr().out == ""


def build(config, data):
    """Found beside `train` in this module, as in a notebook."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, config["width"]))


def train(config, trial):
    """A function given as itself."""


def test_a_function_s_module_is_asked_for_build():
    data = {"name": "digits"}
    sweep = tuner.Sweep(trainable=train, metric="loss", mode="min", data=data, space={"width": tuner.Int(1, 3)})
    assert preflight(sweep, DIGITS).largest.parameters == 65 * 3
