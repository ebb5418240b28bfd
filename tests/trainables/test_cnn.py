from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from conformance_trainables import TrainableConformance
from torch import nn

from trainables import cnn
from trainables.parameters import complete
from tuner.errors import ShapeError
from tuner.trainable import DataInfo

SMALL = DataInfo("small", "classification", (1, 8, 8), ("a", "b"))
WIDE = DataInfo("wide", "classification", (3, 28, 40), ("a", "b"))


class TestCnn(TrainableConformance):
    trainable = "cnn"
    small: ClassVar = {"filters": 4, "dense_units": 16}
    eventful: ClassVar = TrainableConformance.eventful | {"augment": "flip_crop"}


def test_filters_double_a_layer():
    model = cnn.build({"filters": 3, "conv_layers": 3}, WIDE)
    assert [layer.out_channels for layer in model if isinstance(layer, nn.Conv2d)] == [3, 6, 12]


@pytest.mark.parametrize("pooling", ["max", "avg", "stride", "none"])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
def test_the_dense_part_fits_what_the_conv_part_leaves(pooling, kernel_size):
    # The model's own arithmetic of sizes, against what torch makes of them.
    model = cnn.build({"pooling": pooling, "kernel_size": kernel_size, "filters": 2}, WIDE)
    assert model(torch.zeros(2, 3, 28, 40)).shape == (2, 2)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid"])
def test_pooling_before_the_activation_changes_nothing(activation):
    config = complete("cnn", {"activation": activation, "batch_norm": False})
    conv, *rest = cnn.conv_block(3, 8, config)
    x = conv(torch.randn(4, 3, 9, 9))
    act = next(layer for layer in rest if not isinstance(layer, nn.MaxPool2d))
    expected = nn.functional.max_pool2d(act(x.clone()), 2)
    torch.testing.assert_close(nn.Sequential(*rest)(x), expected, rtol=0, atol=1e-6)


def test_too_many_conv_layers_are_refused_with_the_most_that_fit():
    with pytest.raises(ShapeError) as refused:
        cnn.build({"conv_layers": 4}, SMALL)
    assert str(refused.value) == (
        "image 8x8 is smaller than the 16x16 that 4 conv_layers with pooling need; "
        "use at most 3 conv_layers, or image_size >= 16"
    )


def test_as_many_conv_layers_as_fit_and_any_number_without_pooling():
    assert cnn.build({"conv_layers": 3}, SMALL)
    assert cnn.build({"conv_layers": 4, "image_size": 16}, SMALL)
    assert cnn.build({"conv_layers": 5, "pooling": "none", "filters": 2}, SMALL)


def test_a_table_is_refused():
    with pytest.raises(ShapeError, match="use mlp"):
        cnn.build({}, DataInfo("table", "classification", (7,), ("a", "b")))
