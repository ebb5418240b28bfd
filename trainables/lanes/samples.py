"""The samples of a group's lanes on the device: each split once, however many lanes read it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from trainables.samples import Samples
from tuner.trainable import Split


class Shared:
    """Splits one after another in one tensor, from which batches of all lanes are taken by index.

    A single split is the caller's own memory on a CPU; several, such as folds, are copied.

    Args:
        device: Where to keep them.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.splits: dict[Hashable, tuple[Split, Samples]] = {}

    def place(self, split: Split) -> tuple[Samples, int]:
        """Return all samples, and where a split begins among them; it is taken in where it is new."""
        name = _name(split)
        if name not in self.splits:
            self.splits[name] = split, Samples(split, self.device)
            self._join()
        return self.all, self.starts[name]

    def keep(self, splits: Sequence[Split]) -> None:
        """Let go of all but these."""
        names = {_name(split) for split in splits}
        if names != set(self.splits):
            self.splits = {name: kept for name, kept in self.splits.items() if name in names}
            self._join()

    def _join(self) -> None:
        parts = [samples for _, samples in self.splits.values()]
        self.starts, start = {}, 0
        for name, part in zip(self.splits, parts, strict=True):
            self.starts[name] = start
            start += len(part)
        if len(parts) == 1:
            self.all = parts[0]
        elif parts:
            self.all = Samples.joined(parts)

    @property
    def x(self) -> torch.Tensor:
        """All samples' values, as they are stored, where they are: (N, ...)."""
        return self.all.x

    @property
    def y(self) -> torch.Tensor:
        """All samples' classes or values: (N,)."""
        return self.all.y


def _name(split: Split) -> Hashable:
    """Return what is the same of splits that share their memory."""
    return split.x.ctypes.data, split.y.ctypes.data, split.x.shape
