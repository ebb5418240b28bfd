"""From a split's samples to the batches that a model is given.

A split stays as it is stored (images: uint8, see `samples`); each batch is taken from it by index, then
augmented, normalised and resized on the device, a whole batch at a time.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.trainable import DataInfo


def derive(*parts: int | str) -> int:
    """Return a 63-bit seed that follows from the parts, the same in any process."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def steps(samples: int, batch_size: int) -> int:
    """Return how many batches an epoch of so many samples has.

    The last batch may be smaller, but is never a single sample beside others: batch norm has no
    statistics of one. That sample (each epoch another one) is left out.
    """
    full, rest = divmod(samples, batch_size)
    return full + (rest > 1 or (rest == 1 and full == 0))


def batches(rows: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Return an epoch's batches of rows (N, ...), one a sample, in the order of training."""
    return rows.split(batch_size)[: steps(len(rows), batch_size)]


class Preparation:
    """How raw samples become a model's input: float32, normalised, resized.

    Args:
        config: image_size is used.
        data: Its shape says whether they are images.
        preprocess: Images: mean and std a channel, in 0..1. Table rows are taken as they are.
        device: Where the batches are.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        data: DataInfo,
        preprocess: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.device = device
        self.images = len(data.shape) == 3
        self.size = config.get("image_size")
        if self.images:
            channels = data.shape[0]
            mean = np.asarray(preprocess.get("mean", [0.0] * channels))
            std = np.asarray(preprocess.get("std", [1.0] * channels))
            # One multiplication and one addition a pixel: x / 255 / std - mean / std.
            self.scale, self.shift = (
                torch.tensor(values, dtype=torch.float32, device=device).view(1, channels, 1, 1)
                for values in (1 / (255 * std), -mean / std)
            )

    def __call__(self, raw: Tensor) -> Tensor:
        """Return float32 (B, C, size, size) of uint8 (B, C, H, W), or float32 (B, F) of rows (B, F)."""
        if not self.images:
            return raw.float()
        batch = raw.to(torch.float32, memory_format=torch.channels_last).mul_(self.scale).add_(self.shift)
        if self.size and batch.shape[2:] != (self.size, self.size):
            batch = F.interpolate(batch, size=(self.size, self.size), mode="bilinear", antialias=True)
        return batch

    @classmethod
    def of_lanes(cls, lanes: Sequence[Preparation]) -> Preparation:
        """Return what prepares images (B, L x C, H, W), all lanes' channels side by side; rows as they are."""
        joined = copy.copy(lanes[0])
        if joined.images:
            joined.scale = torch.cat([lane.scale for lane in lanes], 1)
            joined.shift = torch.cat([lane.shift for lane in lanes], 1)
        return joined
