from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from conformance_trainables import TrainableConformance
from torch import nn

from trainables import resnet
from tuner.errors import ShapeError
from tuner.trainable import DataInfo

CIFAR = DataInfo("cifar", "classification", (3, 32, 32), tuple("0123456789"))


class TestResnet(TrainableConformance):
    trainable = "resnet"
    small: ClassVar = {"filters": 4}
    eventful: ClassVar = TrainableConformance.eventful | {"augment": "cutout"}


def test_resnet20_has_the_papers_layers_and_size():
    model = resnet.build({"blocks": 3, "filters": 16}, CIFAR)
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(weighted) + 1 == 20
    # The paper's ResNet-20 has 0.27 million parameters.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.27e6, rel=0.02)


def test_the_last_two_stages_halve_the_image():
    model = resnet.build({"filters": 2}, CIFAR)
    before_the_mean = model[: [isinstance(m, nn.AdaptiveAvgPool2d) for m in model].index(True)]
    assert before_the_mean(torch.zeros(1, 3, 32, 32)).shape == (1, 8, 8, 8)


def test_an_image_that_cannot_be_halved_twice_is_refused():
    with pytest.raises(ShapeError, match="image 3x3 is smaller than the 4x4"):
        resnet.build({"image_size": 3}, CIFAR)
