"""What the built-in models share: activations, dense layers, and the size of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from tuner.errors import ShapeError
from tuner.trainable import DataInfo

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

MONOTONE = ("relu", "leaky_relu", "elu", "tanh", "sigmoid")
"""Activations that commute with max pooling."""


def activation(config: Mapping[str, Any]) -> nn.Module:
    """Return the config's activation, working in place where it can."""
    kind = _ACTIVATIONS[config["activation"]]
    return kind(inplace=True) if config["activation"] in ("relu", "leaky_relu", "elu") else kind()


def dense(features: int, outputs: int, config: Mapping[str, Any], *, batch_norm: bool) -> list[nn.Module]:
    """Return dense_layers hidden layers, each followed by dropout, and the output layer: (B, F) -> (B, K)."""
    layers: list[nn.Module] = []
    for _ in range(config["dense_layers"]):
        layers.append(nn.Linear(features, config["dense_units"], bias=not batch_norm))
        features = config["dense_units"]
        if batch_norm:
            layers.append(nn.BatchNorm1d(features))
        layers += [activation(config), nn.Dropout(config["dropout"])]
    if not layers:
        layers.append(nn.Dropout(config["dropout"]))
    return [*layers, nn.Linear(features, outputs)]


def image_shape(trainable: str, config: Mapping[str, Any], data: DataInfo) -> tuple[int, int, int]:
    """Return the (C, H, W) that a model is given: the data's, or image_size squared.

    Raises:
        ShapeError: The data has no images.
    """
    if len(data.shape) != 3:
        raise ShapeError(f"{trainable} needs images, but {data.name} has rows of {data.shape[0]}; use mlp")
    channels, height, width = data.shape
    side = config.get("image_size")
    return (channels, side, side) if side else (channels, height, width)
