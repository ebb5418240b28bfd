"""resnet: a residual network for small images, of depth 6 x blocks + 2.

After He et al. 2015 (arXiv:1512.03385), section 4.2: a conv layer; three stages of `blocks` residual blocks
with filters, 2 x filters, 4 x filters channels, of which the last two halve the image; the mean over the image;
the output layer. Shortcuts that change the shape are 1x1 conv layers (their option B).

`python -m trainables.resnet --smoke` trains it for a moment. docs/parameters.md explains every parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from trainables.layers import Dropout, activation
from trainables.parameters import DEFAULTS as ALL_DEFAULTS
from trainables.parameters import complete
from trainables.sizes import SHAPES, image_shape
from trainables.training import fit
from tuner.trainable import DataInfo, Trial

DEFAULTS = ALL_DEFAULTS["resnet"]
SHAPE = SHAPES["resnet"]


def build(config: Mapping[str, Any], data: DataInfo) -> nn.Module:
    """Return the model: float32 (B, C, H, W) -> (B, outputs).

    Raises:
        ConfigError: A parameter has a value that it may not have.
        ShapeError: The image cannot be halved twice.
    """
    config = complete("resnet", config)
    channels, _, _ = image_shape("resnet", config, data)
    filters = config["filters"]
    layers: list[nn.Module] = [*conv3x3(channels, filters, stride=1), activation(config)]
    channels = filters
    for stage in range(3):
        for block in range(config["blocks"]):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(Block(channels, filters * 2**stage, stride, config))
            channels = filters * 2**stage
    mean = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *mean, Dropout(config["dropout"]), nn.Linear(channels, data.outputs))


class Block(nn.Module):
    """Two 3x3 conv layers beside a shortcut: (B, channels, H, W) -> (B, filters, H/stride, W/stride)."""

    def __init__(self, channels: int, filters: int, stride: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv3x3(channels, filters, stride), activation(config), *conv3x3(filters, filters, stride=1)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != filters:
            narrow = nn.Conv2d(channels, filters, 1, stride, bias=False)
            self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(filters))
        self.activation = activation(config)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the body finds to what the shortcut passes on."""
        return self.activation(self.body(x) + self.shortcut(x))


def conv3x3(channels: int, filters: int, stride: int) -> list[nn.Module]:
    """Return a 3x3 conv layer, which keeps the image's size but for its stride, and its batch norm."""
    return [nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False), nn.BatchNorm2d(filters)]


def train(config: dict[str, Any], trial: Trial) -> None:
    """Train one config, reporting every epoch."""
    fit(build, complete("resnet", config), trial)


if __name__ == "__main__":
    from trainables.alone import main

    main("resnet", train)
