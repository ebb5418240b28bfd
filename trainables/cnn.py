"""cnn: a small convolutional network of which everything can be tuned.

    conv_layers times: conv -> [batch norm] -> activation -> pooling     channels: filters, doubled a layer
    dense_layers times: dense -> activation -> dropout
    output layer: one value a class

`python -m trainables.cnn --smoke` trains it for a moment. docs/parameters.md explains every parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from trainables.layers import MONOTONE, activation, dense
from trainables.parameters import DEFAULTS as ALL_DEFAULTS
from trainables.parameters import complete
from trainables.sizes import SHAPES, image_shape, side_after
from trainables.training import fit
from tuner.trainable import DataInfo, Trial

DEFAULTS = ALL_DEFAULTS["cnn"]
SHAPE = SHAPES["cnn"]


def build(config: Mapping[str, Any], data: DataInfo) -> nn.Module:
    """Return the model: float32 (B, C, H, W) -> (B, outputs).

    Raises:
        ConfigError: A parameter has a value that it may not have.
        ShapeError: Pooling would leave nothing of the image.
    """
    config = complete("cnn", config)
    channels, height, width = image_shape("cnn", config, data)
    layers: list[nn.Module] = []
    for number in range(config["conv_layers"]):
        filters = config["filters"] * 2**number
        layers += conv_block(channels, filters, config)
        channels = filters
        height, width = side_after(config, height), side_after(config, width)
    head = dense(channels * height * width, data.outputs, config, batch_norm=False)
    return nn.Sequential(*layers, nn.Flatten(), *head)


def conv_block(channels: int, filters: int, config: Mapping[str, Any]) -> list[nn.Module]:
    """Return one conv layer with what belongs to it: (B, channels, H, W) -> (B, filters, H/2, W/2)."""
    kernel, pooling = config["kernel_size"], config["pooling"]
    stride = 2 if pooling == "stride" else 1
    normed = config["batch_norm"]
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=not normed)]
    if normed:
        layers.append(nn.BatchNorm2d(filters))
    if pooling == "max" and config["activation"] in MONOTONE:
        # Max pooling and a monotone activation commute, and pooling first leaves it a quarter of the work.
        return [*layers, nn.MaxPool2d(2), activation(config)]
    pools = {"max": [nn.MaxPool2d(2)], "avg": [nn.AvgPool2d(2)], "stride": [], "none": []}
    return [*layers, activation(config), *pools[pooling]]


def train(config: dict[str, Any], trial: Trial) -> None:
    """Train one config, reporting every epoch."""
    fit(build, complete("cnn", config), trial)


if __name__ == "__main__":
    from trainables.alone import main

    main("cnn", train)
