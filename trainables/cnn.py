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

from trainables.layers import MONOTONE, activation, dense, image_shape
from trainables.parameters import DEFAULTS as ALL_DEFAULTS
from trainables.training import complete, fit
from tuner.errors import ShapeError
from tuner.trainable import DataInfo, Trial

DEFAULTS = ALL_DEFAULTS["cnn"]
SHAPE = (
    "filters",
    "conv_layers",
    "kernel_size",
    "pooling",
    "dense_layers",
    "dense_units",
    "batch_norm",
    "image_size",
)


def build(config: Mapping[str, Any], data: DataInfo) -> nn.Module:
    """Return the model: float32 (B, C, H, W) -> (B, outputs).

    Raises:
        ConfigError: A parameter has a value that it may not have.
        ShapeError: Pooling would leave nothing of the image.
    """
    config = complete("cnn", config)
    channels, height, width = image_shape("cnn", config, data)
    _check_fit(config, height, width)
    layers: list[nn.Module] = []
    for number in range(config["conv_layers"]):
        filters = config["filters"] * 2**number
        layers += conv_block(channels, filters, config)
        channels = filters
        height, width = _side_after(config, height), _side_after(config, width)
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


def _side_after(config: Mapping[str, Any], side: int) -> int:
    """Return the side of an image after one conv layer and its pooling."""
    kernel, pooling = config["kernel_size"], config["pooling"]
    padded = side + 2 * (kernel // 2) - kernel
    if pooling == "stride":
        return padded // 2 + 1
    return padded + 1 if pooling == "none" else (padded + 1) // 2


def _check_fit(config: Mapping[str, Any], height: int, width: int) -> None:
    """Refuse more conv layers than there are halvings in the image."""
    layers = config["conv_layers"]
    most = min(height, width).bit_length() - 1
    if config["pooling"] == "none" or layers <= most:
        return
    fewer = f"at most {most} conv_layers, " if most else 'pooling = "none", '
    raise ShapeError(
        f"image {height}x{width} is smaller than the {2**layers}x{2**layers} that {layers} conv_layers with "
        f"pooling need; use {fewer}or image_size >= {2**layers}"
    )


def train(config: dict[str, Any], trial: Trial) -> None:
    """Train one config, reporting every epoch."""
    fit(build, complete("cnn", config), trial)


if __name__ == "__main__":
    from trainables.alone import main

    main("cnn", train)
