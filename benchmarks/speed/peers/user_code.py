"""What a user has before any tuner: a small network on Fashion-MNIST, and the usual eager loop.

Written as PyTorch's own tutorials write it; the competitors of this folder call it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class Net(nn.Module):
    """Two conv layers and two dense ones: float32 (B, 1, 28, 28) -> (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(64 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        """Return the logits."""
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        return self.fc2(F.relu(self.fc1(x)))


def get_loaders(task):
    """Return the loaders of the training and the validation images."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))])
    dataset = datasets.FashionMNIST(task["root"], train=True, transform=transform)
    train_loader = DataLoader(Subset(dataset, task["train"]), batch_size=task["batch_size"], shuffle=True)
    val_loader = DataLoader(Subset(dataset, task["val"]), batch_size=128)
    return train_loader, val_loader


def train_epoch(model, optimizer, loader):
    """Take one pass over the training images."""
    model.train()
    for data, target in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), target)
        loss.backward()
        optimizer.step()


def validate(model, loader):
    """Return loss and accuracy on the validation images."""
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            loss += F.cross_entropy(output, target, reduction="sum").item()
            correct += (output.argmax(dim=1) == target).sum().item()
    return loss / len(loader.dataset), correct / len(loader.dataset)


def train(config, task, report=lambda epoch, loss, accuracy: None):
    """Train one config; returns the validation accuracy after its last epoch."""
    train_loader, val_loader = get_loaders(task)
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=config["learning_rate"], momentum=config["momentum"])
    accuracy = 0.0
    for epoch in range(task["epochs"]):
        train_epoch(model, optimizer, train_loader)
        loss, accuracy = validate(model, val_loader)
        report(epoch, loss, accuracy)
    return accuracy
