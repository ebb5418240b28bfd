"""Fine-tune torchvision's ResNet-18 on your own images: a trainable of your own that survives a crash in mid-trial.

    tuner run docs/examples/finetune.toml

What a config holds:
    learning_rate   of AdamW
    batch_size      images a step
    freeze          true: train the last layer only; false: all of them
    weights         "DEFAULT": start from ImageNet (45 MB, downloaded once by torchvision); "none": from scratch
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from tuner.trainable import Split, Trial

# What ImageNet's images were normalised with, a number a channel.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def train(config: dict[str, Any], trial: Trial) -> None:
    data, device = trial.data, torch.device(trial.device)
    if data is None or data.val is None:
        raise ValueError('the sweep needs [data] with name = "images"')
    model = make_model(config["weights"], len(data.classes), config["freeze"]).to(device)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config["learning_rate"])
    if trial.state is not None:  # this trial was interrupted: go on from its last kept epoch
        model.load_state_dict(trial.state["model"])
        optimizer.load_state_dict(trial.state["optimizer"])
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        # The order follows from seed and epoch alone, so a resumed trial is the same trial.
        order = np.random.default_rng([trial.seed, epoch]).permutation(len(data.train))
        train_loss = train_epoch(model, optimizer, data.train, order, config["batch_size"], device)
        val_loss, val_accuracy = measure(model, data.val, device)
        trial.report(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            state={"model": model.state_dict(), "optimizer": optimizer.state_dict()},
        )


def make_model(weights: str, classes: int, freeze: bool) -> nn.Module:
    """Return a ResNet-18 with a new last layer: images (B, 3, H, W) -> (B, classes)."""
    model = resnet18(weights=None if weights == "none" else weights)
    model.requires_grad_(not freeze)
    model.fc = nn.Linear(model.fc.in_features, classes)
    return model


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: Split,
    order: np.ndarray,
    batch_size: int,
    device: torch.device,
) -> float:
    """Take one pass over a split and return the mean loss on the way."""
    # Frozen layers stay as they are: in training mode, batch norm would go on averaging what it sees.
    model.train(all(weight.requires_grad for weight in model.parameters()))
    total = 0.0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        loss = F.cross_entropy(model(images(split, rows, device)), labels(split, rows, device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    return total / len(order)


@torch.no_grad()
def measure(model: nn.Module, split: Split, device: torch.device, batch_size: int = 256) -> tuple[float, float]:
    """Return mean loss and accuracy over a split."""
    model.eval()
    loss = right = 0.0
    for start in range(0, len(split), batch_size):
        rows = np.arange(start, min(start + batch_size, len(split)))
        scores, y = model(images(split, rows, device)), labels(split, rows, device)
        loss += F.cross_entropy(scores, y, reduction="sum").item()
        right += (scores.argmax(1) == y).sum().item()
    return loss / len(split), right / len(split)


def images(split: Split, rows: np.ndarray, device: torch.device) -> Tensor:
    """Return uint8 images as the network wants them: float32 (B, 3, H, W)."""
    return ((torch.from_numpy(split.x[rows]) / 255 - MEAN) / STD).to(device)


def labels(split: Split, rows: np.ndarray, device: torch.device) -> Tensor:
    """Return class indices: int64 (B,)."""
    return torch.from_numpy(split.y[rows]).to(device)
