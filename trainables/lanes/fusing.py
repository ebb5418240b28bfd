"""Which trials may be lanes of one group, and how many."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from trainables.optimizers import BUFFERS
from trainables.training import EVALUATION_BATCH, Build
from tuner.trainable import Data, DataInfo

GROUP_PARAMETERS = (
    "batch_size",
    "optimizer",
    "filters",
    "conv_layers",
    "kernel_size",
    "pooling",
    "blocks",
    "dense_layers",
    "dense_units",
    "activation",
    "batch_norm",
    "image_size",
)
"""The parameters that change a tensor's shape or which kernels run: what lanes of a group have in common."""

LANE_PARAMETERS = (
    "learning_rate",
    "momentum",
    "weight_decay",
    "l1",
    "dropout",
    "label_smoothing",
    "class_weights",
    "lr_schedule",
    "gamma",
    "step_epochs",
    "plateau_patience",
    "warmup_epochs",
    "epochs",
    "augment",
)
"""The parameters that each lane has of its own."""

STORED = 4
"""Bytes of a number."""


def key(config: Mapping[str, Any], data: Data) -> Hashable:
    """Return what trials must agree in to be lanes of one group.

    Args:
        config: A complete config of a built-in trainable; which one shows in the parameters that it has.
        data: Its splits. Folds fuse where their splits are equally long.
    """
    shapes = tuple((name, config[name]) for name in GROUP_PARAMETERS if name in config)
    validated = None if data.val is None else len(data.val)
    return shapes, data.task, data.shape, data.outputs, len(data.train), validated


def bytes_per_lane(build: Build, config: Mapping[str, Any], data: DataInfo, device: torch.device) -> int:
    """Return about how much memory one more lane takes, besides its samples.

    Built and run on meta tensors, which take none. Weights, gradients (as they come, and side by side) and what the
    optimizer keeps; and what autograd keeps of a batch, with two of the largest layer passing by.

    Args:
        build: Makes the model.
        config: A complete config.
        data: What it is trained on.
        device: Where; a GPU measures many samples at a time.
    """
    samples = max(config["batch_size"], 2)  # batch norm cannot train on one
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    side = config.get("image_size")
    shape = (data.shape[0], side, side) if side and len(data.shape) == 3 else data.shape
    with torch.device("meta"):
        model = build(config, data).train()
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = model(torch.empty((samples, *shape)))
    largest = max(kept.values(), default=0)
    measuring = 2 * largest * evaluation_batch(device, lanes=8) // samples
    del outputs
    rows = 3 + len(BUFFERS[config["optimizer"]])
    return rows * STORED * sum(p.numel() for p in model.parameters()) + max(sum(kept.values()) + 2 * largest, measuring)


def evaluation_batch(device: torch.device, lanes: int) -> int:
    """Return how many samples of each lane are measured at a time: what fills a GPU is shared among them."""
    lone = EVALUATION_BATCH[device.type]
    return lone if device.type == "cpu" else max(EVALUATION_BATCH["cpu"], lone // lanes)
