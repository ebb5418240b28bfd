"""mlp: dense layers, for tables (classes or values); images are read as rows of pixels.

    dense_layers times: dense -> [batch norm] -> activation -> dropout
    output layer: one value a class, or the value itself

`python -m trainables.mlp --smoke` trains it for a moment. docs/parameters.md explains every parameter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from trainables.layers import dense
from trainables.parameters import DEFAULTS as ALL_DEFAULTS
from trainables.parameters import complete
from trainables.sizes import SHAPES
from trainables.training import fit
from tuner.trainable import DataInfo, Trial

DEFAULTS = ALL_DEFAULTS["mlp"]
SHAPE = SHAPES["mlp"]


def build(config: Mapping[str, Any], data: DataInfo) -> nn.Module:
    """Return the model: float32 (B, F) or (B, C, H, W) -> (B, outputs).

    Raises:
        ConfigError: A parameter has a value that it may not have.
    """
    config = complete("mlp", config)
    layers = dense(math.prod(data.shape), data.outputs, config, batch_norm=config["batch_norm"])
    return nn.Sequential(nn.Flatten(), *layers)


def train(config: dict[str, Any], trial: Trial) -> None:
    """Train one config, reporting every epoch."""
    fit(build, complete("mlp", config), trial)


if __name__ == "__main__":
    from trainables.alone import main

    main("mlp", train)
