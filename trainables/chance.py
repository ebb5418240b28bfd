"""Everything random in one epoch of one trial: it follows from (the trial's seed, the epoch), alone and in a lane.

So a trial that is resumed at any epoch, in any process, or as a lane of any group, goes on with the same choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from trainables.inputs import derive

MOST_LAYERS = 256
"""Dropout layers of a model, at most."""


@dataclass(frozen=True)
class Chance:
    """What an epoch leaves to chance.

    Args:
        order: The samples' indices in the order of training, int64 (N,).
        draws: Where and how each is augmented, float32 (N, 3) in 0..1, 1 excluded; None where none is.
        keys: Of each step and each dropout layer, int64 (steps, layers).
    """

    order: Tensor
    draws: Tensor | None
    keys: Tensor


def chance(
    seed: int, epoch: int, samples: int, steps: int, layers: int, *, augmented: bool, device: torch.device
) -> Chance:
    """Return an epoch's choices, on the device.

    Args:
        seed: The trial's.
        epoch: From 1.
        samples: In the training split.
        steps: In the epoch.
        layers: Dropout layers of the model.
        augmented: Whether samples are augmented.
        device: A GPU's generator gives other numbers than a CPU's.
    """
    generator = Generator(device).manual_seed(derive(seed, "order", epoch))
    order = torch.randperm(samples, generator=generator, device=device)
    draws = torch.rand(samples, 3, generator=generator, device=device) if augmented else None
    keys = torch.from_numpy(dropout_keys(derive(seed, "dropout", epoch), steps, layers))
    return Chance(order, draws, keys.to(device))


def dropout_keys(start: int, steps: int, layers: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return a key for each step and layer, int64 (steps, layers): SplitMix64 (Steele et al. 2014)."""
    counts = np.arange(steps, dtype=np.uint64)[:, None] * np.uint64(MOST_LAYERS) + np.arange(layers, dtype=np.uint64)
    z = np.uint64(start) + counts * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).view(np.int64)
