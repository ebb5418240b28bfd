"""What the built-in models share: activations, dense layers, dropout, and the size of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        layers += [activation(config), Dropout(config["dropout"])]
    if not layers:
        layers.append(Dropout(config["dropout"]))
    return [*layers, nn.Linear(features, outputs)]


class Dropout(nn.Module):
    """Switch off a share of the units in training, and scale the others up: x (B, F), or (L, B, F) of L lanes.

    Which ones is a hash of (the step's key, the unit's place), so that a trial's choices do not hang on a generator
    that others draw from: they are the same alone and in a lane. Without a key torch's generator decides.

    Args:
        rates: The share; of each lane in a stacked model.
    """

    def __init__(self, rates: float | Sequence[float]) -> None:
        super().__init__()
        self.rates = rates
        self.key: Tensor | None = None
        self.limits: tuple[Any, Any] | None = None
        self.places: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x with some of its units 0; as it is in evaluation mode, or where all rates are 0."""
        single = isinstance(self.rates, int | float)
        if not self.training or not (self.rates if single else any(self.rates)):
            return x
        if self.key is None:
            return F.dropout(x, self.rates)
        if self.limits is None:
            self.limits = _limits(self.rates, x)
        threshold, scale = self.limits
        kept = self._hashed(x.shape[-2], x.shape[-1], self.key) >= threshold
        return x * kept.to(x.dtype).mul_(scale)

    def _hashed(self, rows: int, units: int, key: Tensor) -> Tensor:
        """Return a random int64 of each unit: (B, F) for a key (), (L, B, F) for keys (L,)."""
        if self.places is None or len(self.places) < rows:
            places = torch.arange(rows * units, device=key.device).view(rows, units)
            self.places = places * _ODD[0]
        mixed = self.places[:rows] + (key if key.ndim == 0 else key[:, None, None])
        # Multiplied twice, high bits moved down in between (as in MurmurHash3): what is compared are the high ones.
        mixed ^= mixed >> 32
        mixed *= _ODD[1]
        mixed ^= mixed >> 29
        mixed *= _ODD[2]
        return mixed

    def extra_repr(self) -> str:
        return f"rates={self.rates}"


_ODD = (0x1E3779B97F4A7C15, 0x2545F4914F6CDD1D, 0x369DEA0F31A53F85)
"""Odd multipliers below 2**63 with about as many ones as zeros."""


def _limits(rates: float | Sequence[float], x: Tensor) -> tuple[Any, Any]:
    """Return what a kept unit's hash reaches, and what it is scaled by: numbers, or (L, 1, 1) on the device."""
    if isinstance(rates, int | float):
        return int(rates * 2**64) - 2**63, 1 / (1 - rates)
    parts = [_limits(rate, x) for rate in rates]
    thresholds = torch.tensor([threshold for threshold, _ in parts], device=x.device)
    return thresholds[:, None, None], x.new_tensor([scale for _, scale in parts])[:, None, None]
