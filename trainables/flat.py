"""All parameters of a model in one buffer, so that an optimizer's step is a few operations, however many layers.

A row holds one model: first what the penalties reach (matrices and filters), then biases and batch norm. A lone
trial has one row; a stacked model has a row a lane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """Where one parameter lies in a row.

    Args:
        name: As in the model's state_dict.
        shape: As in the model.
        start: Its first number in the row; included.
        stop: Where the next one begins.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape in which it is stored: a conv layer's filters are channels_last, (O, H, W, I)."""
        if len(self.shape) != 4:
            return self.shape
        outputs, inputs, height, width = self.shape
        return outputs, height, width, inputs

    def of(self, row: Tensor) -> Tensor:
        """Return the parameter, in the model's shape, as a view of a row (P,)."""
        part = row[self.start : self.stop].view(self.stored)
        return part.permute(0, 3, 1, 2) if part.ndim == 4 else part

    def flattened(self, value: Tensor) -> Tensor:
        """Return a tensor of the model's shape as it lies in a row: (stop - start,)."""
        return (value.permute(0, 2, 3, 1) if len(self.shape) == 4 else value).reshape(-1)


class Places(tuple[Place, ...]):
    """The places of a model's parameters, those that the penalties reach first."""

    @classmethod
    def of(cls, model: nn.Module) -> Places:
        """Return the places of a model's parameters; they follow from its shapes alone."""
        named = sorted(model.named_parameters(), key=lambda item: item[1].ndim < 2)
        places, start = [], 0
        for name, value in named:
            stop = start + math.prod(value.shape)
            places.append(Place(name, tuple(value.shape), start, stop))
            start = stop
        return cls(places)

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return self[-1].stop if self else 0

    @property
    def weights(self) -> int:
        """How many of the parameters the penalties reach: the first."""
        return sum(len(place.shape) >= 2 for place in self)

    @property
    def decayed(self) -> int:
        """How many of a row's numbers the penalties reach: the first."""
        return self[self.weights - 1].stop if self.weights else 0

    def row(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return a new row (P,) of parameters by name."""
        return torch.cat([place.flattened(values[place.name].detach()) for place in self])


class Flat:
    """The values of the parameters, (L, P), and the leaves that autograd sees, which are views of them.

    Args:
        places: Where the parameters lie.
        values: (L, P); kept, not copied.
    """

    def __init__(self, places: Places, values: Tensor) -> None:
        self.places, self.values = places, values
        # A lane's row is not beside its neighbour's, so leaves are stored as the row is: filters (L, O, H, W, I).
        lanes = len(values)
        self.leaves = [
            values[:, place.start : place.stop].view(lanes, *place.stored).detach().requires_grad_() for place in places
        ]

    @classmethod
    def lone(cls, model: nn.Module) -> Flat:
        """Return the one row of a model, whose parameters become views of it."""
        places, named = Places.of(model), dict(model.named_parameters())
        flat = cls(places, places.row(named)[None])
        flat.leaves = [named[place.name] for place in places]
        for place, leaf in zip(places, flat.leaves, strict=True):
            leaf.data = place.of(flat.values[0])
        return flat

    def parts(self, rows: Tensor) -> list[Tensor]:
        """Return rows (L, P) as one view a parameter, (L, numbers of it)."""
        return [rows[:, place.start : place.stop] for place in self.places]

    def collect(self) -> list[Tensor]:
        """Return what a backward pass left at the leaves, as `parts`; they let go of it."""
        rows, parts = len(self.values), []
        for place, leaf in zip(self.places, self.leaves, strict=True):
            grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            # Only a lone model's filters have another order than their row: (O, I, H, W).
            lone = grad.ndim == len(place.shape)
            parts.append(place.flattened(grad)[None] if lone else grad.reshape(rows, -1))
            leaf.grad = None
        return parts
