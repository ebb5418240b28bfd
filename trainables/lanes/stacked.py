"""A stacked model: what a model does for one trial, done for L lanes by the same number of operations.

    images   (B, L x C, H, W), channels_last: lanes are groups of channels, so that conv layers are grouped
             convolutions, and batch norm and pooling are the lone model's own
    rows     (L, B, F): dense layers are batched matrix products

It is made of a lone model by replacing its layers one by one, so whatever is built of these layers can be stacked.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.flat import Flat, Places
from trainables.layers import Dropout

STEPS_SEEN = "num_batches_tracked"


class Stack:
    """The weights and the layers of L lanes.

    Args:
        lone: A lone model on the device: its layers are the pattern, its weights are not used.
        rates: Of each lane, the dropout.
    """

    def __init__(self, lone: nn.Module, rates: Sequence[float]) -> None:
        self.places, self.order = Places.of(lone), list(lone.state_dict())
        lanes, some = len(rates), next(lone.parameters())
        self.flat = Flat(self.places, some.new_zeros(lanes, self.places.size))
        self.buffers = {name: torch.stack([value] * lanes) for name, value in lone.named_buffers()}
        leaves = dict(zip([place.name for place in self.places], self.flat.leaves, strict=True))
        self.model = _stacked(lone, "", leaves | self.buffers, rates)

    def load(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Give a lane the weights of a lone model's state_dict."""
        with torch.no_grad():
            for place in self.places:
                place.of(self.flat.values[row]).copy_(state[place.name])
            for name, buffer in self.buffers.items():
                buffer[row].copy_(state[name])

    def state_dict(self, row: int) -> dict[str, Tensor]:
        """Return a lane's weights as a lone model's state_dict: copies, in its order."""
        values = self.flat.values[row].clone()
        parts = {place.name: place.of(values) for place in self.places}
        parts |= {name: buffer[row].clone() for name, buffer in self.buffers.items()}
        return {name: parts[name] for name in self.order}

    def count(self, steps: int) -> None:
        """Take note of an epoch's steps where batch norm would have counted each."""
        for name, buffer in self.buffers.items():
            if name.endswith(STEPS_SEEN):
                buffer += steps


def _stacked(module: nn.Module, name: str, tensors: Mapping[str, Tensor], rates: Sequence[float]) -> nn.Module:
    """Return what does for all lanes what a module does for one.

    Args:
        module: A layer, or layers in layers.
        name: Its name in the lone model, as in the names of its tensors.
        tensors: All lanes' parameters and buffers by name; (L, ...).
        rates: Of each lane, the dropout.
    """
    own = {
        part: tensors[f"{name}{part}"] for part in (*module._parameters, *module._buffers) if f"{name}{part}" in tensors
    }
    for kind, of_lanes in _LAYERS.items():
        if isinstance(module, kind):
            return of_lanes(module, own, len(rates))
    if isinstance(module, Dropout):
        return Dropout(rates)
    if own:
        raise TypeError(f"{type(module).__name__} cannot be stacked: it has parameters, and no form for lanes")
    same = copy.copy(module)
    children = {part: _stacked(child, f"{name}{part}.", tensors, rates) for part, child in module.named_children()}
    same._modules = children
    return same


class _Conv(nn.Module):
    """A grouped convolution: (B, L x C, H, W) -> (B, L x O, H', W')."""

    def __init__(self, layer: nn.Conv2d, tensors: Mapping[str, Tensor], lanes: int) -> None:
        super().__init__()
        self.layer, self.tensors, self.lanes = [layer], tensors, lanes

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer[0]
        weight = self.tensors["weight"].flatten(0, 1).permute(0, 3, 1, 2)  # stored as (L, O, H, W, C)
        bias = self.tensors["bias"].flatten() if "bias" in self.tensors else None
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, self.lanes)


class _Norm(nn.Module):
    """Batch norm of each lane's own channels: (B, L x C, H, W), or (L, B, F)."""

    def __init__(self, layer: _BatchNorm, tensors: Mapping[str, Tensor], lanes: int) -> None:
        super().__init__()
        self.layer, self.tensors, self.lanes = [layer], tensors, lanes

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer[0]
        names = ("running_mean", "running_var", "weight", "bias")
        tensors = [self.tensors[name].flatten() for name in names]
        if x.ndim == 4:
            return F.batch_norm(x, *tensors, self.training, layer.momentum, layer.eps)
        side_by_side = x.transpose(0, 1).flatten(1)  # (B, L x F)
        normed = F.batch_norm(side_by_side, *tensors, self.training, layer.momentum, layer.eps)
        return normed.view(-1, self.lanes, x.shape[2]).transpose(0, 1)


class _Dense(nn.Module):
    """A batched matrix product: (L, B, F) -> (L, B, K)."""

    def __init__(self, layer: nn.Linear, tensors: Mapping[str, Tensor], lanes: int) -> None:
        super().__init__()
        self.tensors = tensors

    def forward(self, x: Tensor) -> Tensor:
        weight = self.tensors["weight"].mT
        if "bias" not in self.tensors:
            return torch.bmm(x, weight)
        return torch.baddbmm(self.tensors["bias"][:, None], x, weight)


class _Flatten(nn.Module):
    """Images (B, L x C, H, W) become rows (L, B, C x H x W); rows stay."""

    def __init__(self, layer: nn.Flatten, tensors: Mapping[str, Tensor], lanes: int) -> None:
        super().__init__()
        self.lanes = lanes

    def forward(self, x: Tensor) -> Tensor:
        return x if x.ndim == 3 else x.unflatten(1, (self.lanes, -1)).flatten(2).transpose(0, 1)


_LAYERS: dict[type[nn.Module], Any] = {nn.Conv2d: _Conv, _BatchNorm: _Norm, nn.Linear: _Dense, nn.Flatten: _Flatten}
