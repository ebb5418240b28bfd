"""Random changes of training images: whole batches of uint8, on the data's device.

They work on raw pixels, before normalising: what they uncover is black, as in torchvision's RandomCrop.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def augment(images: Tensor, how: str, generator: Generator) -> Tensor:
    """Return images (B, C, H, W) changed as the parameter augment says; each image in its own way.

    Args:
        images: uint8 pixels.
        how: "none", "flip", "crop", "flip_crop" or "cutout".
        generator: Drawn from; on the images' device.
    """
    if "flip" in how:
        images = flip(images, generator)
    if "crop" in how:
        images = crop(images, generator)
    if how == "cutout":
        images = cutout(images, generator)
    return images


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the images, left to right."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(chosen, images.flip(3), images)


def crop(images: Tensor, generator: Generator) -> Tensor:
    """Move each image by up to an eighth of its side (at least a pixel) both ways."""
    count, _, height, width = images.shape
    reach = max(1, min(height, width) // 8)
    rows = _places(count, height, reach, images, generator)[:, :, None]  # (B, H, 1)
    columns = _places(count, width, reach, images, generator)[:, None, :]  # (B, 1, W)
    which = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, (reach, reach, reach, reach))
    return padded.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2)


def _places(count: int, size: int, reach: int, images: Tensor, generator: Generator) -> Tensor:
    """Return indices (B, size) of a window that begins between 0 and 2 x reach, both included."""
    start = torch.randint(2 * reach + 1, (count, 1), generator=generator, device=images.device)
    return start + torch.arange(size, device=images.device)


def cutout(images: Tensor, generator: Generator) -> Tensor:
    """Black out a square of half the side, centred anywhere in the image (DeVries and Taylor, 2017)."""
    count, _, height, width = images.shape
    half = max(1, min(height, width) // 4)
    rows = _near(count, height, half, images, generator)[:, None, :, None]
    columns = _near(count, width, half, images, generator)[:, None, None, :]
    return images.masked_fill(rows & columns, 0)


def _near(count: int, size: int, half: int, images: Tensor, generator: Generator) -> Tensor:
    """Return which of `size` pixels lie within `half` of a random centre: bool (B, size)."""
    centre = torch.randint(size, (count, 1), generator=generator, device=images.device)
    place = torch.arange(size, device=images.device)
    return (place >= centre - half) & (place < centre + half)
