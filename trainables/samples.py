"""A split where its batches are taken from: on the device where it fits there, else in this machine's memory.

What stays behind is brought over a few batches ahead of their use, by another thread, and on a GPU from pinned memory
by a stream of its own: the device neither waits for the host, nor for the copy.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.trainable import Split

SHARE = 0.5
"""Of what is free on a GPU, that a split may take; the rest is the model's, and other trials'."""
AHEAD = 3
"""Batches that are on their way while one is used."""


class Samples:
    """One split: its values where they fit, its classes or targets on the device.

    Args:
        split: Its arrays, which are read and never written.
        device: Where it is used.
        resident: Whether its values lie on the device. None: where they take at most SHARE of what is free there.

    Attributes:
        x: uint8 (N, C, H, W), or float32 (N, F); on the device where `resident`, else in this machine's memory.
        y: int64 (N,), or float32 (N,), on the device.
    """

    def __init__(self, split: Split, device: torch.device, resident: bool | None = None) -> None:
        x, self.device = _tensor(split.x), device
        self.resident = _fits(x, device) if resident is None else resident
        self.x = x.to(device) if self.resident else x
        self.y = _tensor(split.y).to(device)
        self._copies = None if self.resident or device.type != "cuda" else torch.cuda.Stream(device)

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """Return the samples of all parts, one after another: a copy, on the device where all parts are."""
        whole = copy.copy(next((part for part in parts if not part.resident), parts[0]))
        where = whole.device if whole.resident else torch.device("cpu")
        whole.x, whole.y = torch.cat([part.x.to(where) for part in parts]), torch.cat([part.y for part in parts])
        return whole

    def take(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the values (..., C, H, W) or (..., F) of each batch of indices (...), on the device."""
        if self.resident:
            return (self.x[index] for index in indices)
        if self.device.type != "cpu":  # the device is waited for once, not once a batch
            flat = torch.cat([index.flatten() for index in indices]).cpu()
            parts = flat.split([index.numel() for index in indices])
            indices = [part.view(index.shape) for part, index in zip(parts, indices, strict=True)]
        return self._brought(indices, lambda index: self.x[index])

    def parts(self, size: int) -> Iterator[Tensor]:
        """Yield all values in their order, `size` samples at a time, on the device."""
        split = self.x.split(size)
        return iter(split) if self.resident else self._brought(split, lambda part: part)

    def _brought(self, items: Iterable[Tensor], gather: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        for batch in _ahead(items, lambda item: self._moved(gather(item))):
            if self._copies is not None:
                now = torch.cuda.current_stream(self.device)
                now.wait_stream(self._copies)
                batch.record_stream(now)
            yield batch

    def _moved(self, batch: Tensor) -> Tensor:
        """Return a batch on its way to the device."""
        if self._copies is None:
            return batch.to(self.device)
        with torch.cuda.stream(self._copies):
            return batch.pin_memory().to(self.device, non_blocking=True)


def _fits(x: Tensor, device: torch.device) -> bool:
    return device.type != "cuda" or x.nbytes <= SHARE * torch.cuda.mem_get_info(device)[0]


def _ahead(items: Iterable[Tensor], fetch: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Yield what fetch makes of each item, in order; another thread is AHEAD of who takes them."""
    left = iter(items)
    with ThreadPoolExecutor(1, "batches") as thread:
        coming: deque[Future[Tensor]] = deque(thread.submit(fetch, item) for item in itertools.islice(left, AHEAD))
        while coming:
            batch = coming.popleft().result()
            coming.extend(thread.submit(fetch, item) for item in itertools.islice(left, 1))
            yield batch


def _tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the array's memory."""
    with warnings.catch_warnings():
        # Shared arrays are read-only, which torch cannot express; nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
