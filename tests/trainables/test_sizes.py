"""What is reckoned of a built-in model is what torch counts in the one that is built."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys

import pytest
import torch

from trainables.parameters import PARAMETERS, names
from trainables.sizes import SHAPES, size
from tuner.errors import ConfigError
from tuner.trainable import DataInfo

DATA = (
    DataInfo("digits", "classification", (1, 8, 8), tuple("0123456789"), 10, 5),
    DataInfo("photos", "classification", (3, 13, 29), ("cat", "dog"), 10, 5),
    DataInfo("thin", "classification", (1, 3, 40), ("a", "b", "c"), 10, 5),
    DataInfo("wine", "classification", (13,), ("a", "b", "c"), 10, 5),
    DataInfo("diabetes", "regression", (10,), (), 10, 5),
)
BOUNDS = {"filters": 12, "conv_layers": 5, "kernel_size": 8, "blocks": 3, "dense_units": 20, "image_size": 40}


def drawn(trainable, rng):
    """Return a config that has any values of the parameters that shape a model, or lacks them."""
    config = {}
    for name in names(trainable):
        if name not in SHAPES[trainable] or rng.random() < 0.3:
            continue
        parameter = PARAMETERS[name]
        if parameter.kind == "boolean":
            config[name] = rng.random() < 0.5
        elif parameter.kind == "choice":
            config[name] = rng.choice(parameter.options)
        else:
            config[name] = rng.randint(int(parameter.low), BOUNDS.get(name, 3))
    return config


@pytest.mark.parametrize("trainable", sorted(SHAPES))
def test_sizes_and_refusals_are_those_of_the_model_that_is_built(trainable):
    build = importlib.import_module(f"trainables.{trainable}").build
    rng, built, refused = random.Random(1), 0, 0
    for _ in range(400):
        config, data = drawn(trainable, rng), rng.choice(DATA)
        try:
            with torch.device("meta"):
                model = build(config, data)
        except ConfigError as error:
            with pytest.raises(type(error)) as reckoned:
                size(trainable, config, data)
            assert str(reckoned.value) == str(error)
            refused += 1
            continue
        found = size(trainable, config, data)
        assert found.parameters == sum(weights.numel() for weights in model.parameters()), (config, data)
        assert found.buffer_bytes == sum(b.numel() * b.element_size() for b in model.buffers()), (config, data)
        built += 1
    assert built > 100
    assert refused > 50 or trainable == "mlp"  # which has no shape that does not fit


@pytest.mark.parametrize("trainable", sorted(SHAPES))
def test_what_a_parameter_may_not_be_is_refused_as_build_refuses_it(trainable):
    build = importlib.import_module(f"trainables.{trainable}").build
    for config in ({"batch_size": 0}, {"filtres": 3, "optimizer": "sdg"}):
        with pytest.raises(ConfigError) as error:
            build(config, DATA[0])
        with pytest.raises(ConfigError) as reckoned:
            size(trainable, config, DATA[0])
        assert str(reckoned.value) == str(error.value)


@pytest.mark.parametrize("trainable", sorted(SHAPES))
def test_what_does_not_shape_a_model_does_not_change_its_size(trainable):
    base = size(trainable, {}, DATA[0])
    others = {"learning_rate": 0.3, "optimizer": "adam", "activation": "tanh", "dropout": 0.5, "batch_size": 7}
    assert all(size(trainable, {name: value}, DATA[0]) == base for name, value in others.items())


def test_reckoning_imports_no_torch():
    script = "import sys, trainables.sizes, trainables.data, tuner.preflight; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
