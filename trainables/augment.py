"""Random changes of training images: whole batches of uint8, on the data's device.

They work on raw pixels, before normalising: what they uncover is black, as in torchvision's RandomCrop.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, how: str, draws: Tensor | None) -> Tensor:
    """Return images (B, C, H, W) changed as the parameter augment says; each image in its own way.

    Args:
        images: uint8 pixels.
        how: "none", "flip", "crop", "flip_crop" or "cutout".
        draws: What each image's change follows from: float32 (B, 3), uniform in 0..1, 1 excluded; None for "none".
    """
    if draws is None:
        return images
    if "flip" in how:
        images = flip(images, draws[:, 0])
    if "crop" in how:
        images = crop(images, draws[:, 1:])
    if how == "cutout":
        images = cutout(images, draws[:, 1:])
    return images


def flip(images: Tensor, draws: Tensor) -> Tensor:
    """Mirror half of the images, left to right."""
    return torch.where((draws < 0.5)[:, None, None, None], images.flip(3), images)


def crop(images: Tensor, draws: Tensor) -> Tensor:
    """Move each image by up to an eighth of its side (at least a pixel) both ways."""
    count, _, height, width = images.shape
    reach = max(1, min(height, width) // 8)
    # A window begins between 0 and 2 x reach, both included.
    start = (draws * (2 * reach + 1)).long()
    rows = (start[:, :1] + torch.arange(height, device=images.device))[:, :, None]  # (B, H, 1)
    columns = (start[:, 1:] + torch.arange(width, device=images.device))[:, None, :]  # (B, 1, W)
    which = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, (reach, reach, reach, reach))
    return padded.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2)


def cutout(images: Tensor, draws: Tensor) -> Tensor:
    """Black out a square of half the side, centred anywhere in the image (DeVries and Taylor, 2017)."""
    height, width = images.shape[2:]
    half = max(1, min(height, width) // 4)
    rows = _near(draws[:, :1], height, half)[:, None, :, None]
    columns = _near(draws[:, 1:], width, half)[:, None, None, :]
    return images.masked_fill(rows & columns, 0)


def _near(draws: Tensor, size: int, half: int) -> Tensor:
    """Return which of `size` pixels lie within `half` of a random centre: bool (B, size)."""
    centre = (draws * size).long()
    place = torch.arange(size, device=draws.device)
    return (place >= centre - half) & (place < centre + half)
