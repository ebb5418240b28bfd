"""How large a built-in model is, and whether its images are large enough: by arithmetic, without torch.

So a plan is made, and a sweep begun, by a process that never imports torch. A test holds every number to what torch
counts in the model that is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.parameters import complete
from tuner.errors import ShapeError
from tuner.trainable import DataInfo

_FLOAT = 4  # bytes of a weight, and of a number that batch norm keeps
_COUNTER = 8  # of the batches that batch norm has seen

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """How large a model is.

    Args:
        parameters: Its weights.
        buffer_bytes: What a checkpoint holds of it besides.
    """

    parameters: int = 0
    buffer_bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.parameters + other.parameters, self.buffer_bytes + other.buffer_bytes)


def size(trainable: str, config: Config, data: DataInfo) -> Size:
    """Return the size of the model that a built-in trainable's build() makes.

    Args:
        trainable: "cnn", "resnet" or "mlp".
        config: May lack parameters, which have their defaults then.
        data: What the model is for.

    Raises:
        ConfigError: As build() does: a parameter has a value that it may not have.
        ShapeError: As build() does: the images are too small, or there are none.
    """
    return _SIZES[trainable](complete(trainable, config), data)


def image_shape(trainable: str, config: Config, data: DataInfo) -> tuple[int, int, int]:
    """Return the (C, H, W) that a model is given: the data's, or image_size squared.

    Raises:
        ShapeError: The data has no images, or they are smaller than the model needs.
    """
    if len(data.shape) != 3:
        raise ShapeError(f"{trainable} needs images, but {data.name} has rows of {data.shape[0]}; use mlp")
    channels, height, width = data.shape
    side = config.get("image_size")
    height, width = (side, side) if side else (height, width)
    _CHECKS[trainable](config, height, width)
    return channels, height, width


def side_after(config: Config, side: int) -> int:
    """Return the side of an image after one conv layer of cnn and its pooling."""
    kernel, pooling = config["kernel_size"], config["pooling"]
    padded = side + 2 * (kernel // 2) - kernel
    if pooling == "stride":
        return int(padded // 2 + 1)
    return int(padded + 1 if pooling == "none" else (padded + 1) // 2)


def _check_cnn(config: Config, height: int, width: int) -> None:
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


def _check_resnet(config: Config, height: int, width: int) -> None:
    if min(height, width) < 4:
        raise ShapeError(f"image {height}x{width} is smaller than the 4x4 that three stages need; use image_size >= 4")


def _cnn(config: Config, data: DataInfo) -> Size:
    channels, height, width = image_shape("cnn", config, data)
    found = Size()
    for number in range(config["conv_layers"]):
        filters = config["filters"] * 2**number
        found += _conv(channels, filters, config["kernel_size"], normed=config["batch_norm"])
        channels = filters
        height, width = side_after(config, height), side_after(config, width)
    return found + _dense(channels * height * width, data.outputs, config, normed=False)


def _resnet(config: Config, data: DataInfo) -> Size:
    channels, _, _ = image_shape("resnet", config, data)
    filters = config["filters"]
    found, channels = _conv(channels, filters, 3, normed=True), filters
    for stage in range(3):
        for block in range(config["blocks"]):
            wide = filters * 2**stage
            found += _conv(channels, wide, 3, normed=True) + _conv(wide, wide, 3, normed=True)
            if channels != wide or (stage > 0 and block == 0):
                found += _conv(channels, wide, 1, normed=True)
            channels = wide
    return found + _linear(channels, data.outputs)


def _mlp(config: Config, data: DataInfo) -> Size:
    return _dense(math.prod(data.shape), data.outputs, config, normed=config["batch_norm"])


def _dense(features: int, outputs: int, config: Config, *, normed: bool) -> Size:
    found, units = Size(), config["dense_units"]
    for _ in range(config["dense_layers"]):
        found += _linear(features, units, normed=normed)
        features = units
    return found + _linear(features, outputs)


def _conv(channels: int, filters: int, kernel: int, *, normed: bool) -> Size:
    return Size(channels * filters * kernel**2) + _shift(filters, normed=normed)


def _linear(features: int, outputs: int, *, normed: bool = False) -> Size:
    return Size(features * outputs) + _shift(outputs, normed=normed)


def _shift(units: int, *, normed: bool) -> Size:
    """Return what follows a layer's weights: a bias, or batch norm's scale and bias, with the mean and variance."""
    return Size(2 * units, 2 * units * _FLOAT + _COUNTER) if normed else Size(units)


_SIZES: Mapping[str, Callable[[Config, DataInfo], Size]] = {"cnn": _cnn, "resnet": _resnet, "mlp": _mlp}
_CHECKS: Mapping[str, Callable[[Config, int, int], None]] = {"cnn": _check_cnn, "resnet": _check_resnet}

SHAPES: Mapping[str, tuple[str, ...]] = {
    "cnn": (
        "filters",
        "conv_layers",
        "kernel_size",
        "pooling",
        "dense_layers",
        "dense_units",
        "batch_norm",
        "image_size",
    ),
    "resnet": ("filters", "blocks", "image_size"),
    "mlp": ("dense_layers", "dense_units", "batch_norm"),
}
"""The parameters that change a tensor's shape, by trainable: each module's SHAPE."""
