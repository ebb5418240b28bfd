"""A trial without a sweep: for running a trainable alone, and for its tests."""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.trainable import Data, StopTrial, Train


@dataclass
class Alone:
    """A trial that keeps what is reported; what a trial is given is explained at tuner.trainable.Trial.

    Args:
        data: Its splits.
        stop_after: The epoch after which its stopping rule ends it; None: it has none.
        verbose: Whether to print each epoch.
    """

    data: Data | None
    max_epochs: int = 2
    number: int = 1
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    start_epoch: int = 0
    state: dict[str, Any] | None = None
    stop_after: int | None = None
    verbose: bool = False
    reports: list[dict[str, Any]] = field(default_factory=list)
    saved: list[bytes] = field(default_factory=list)
    predictions: list[NDArray[Any] | None] = field(default_factory=list)

    def report(
        self,
        *,
        epoch: int,
        state: dict[str, Any] | None = None,
        predictions: NDArray[np.float32] | None = None,
        **metrics: float | None,
    ) -> None:
        """Keep one epoch: its metrics, its state as the bytes of a checkpoint, its predictions."""
        self.reports.append({"epoch": epoch, **metrics})
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.saved.append(buffer.getvalue())
        self.predictions.append(predictions)
        if self.verbose:
            print(f"epoch {epoch}  " + "  ".join(f"{k} {v:.4g}" for k, v in metrics.items() if v is not None))
        if epoch == self.stop_after:
            raise StopTrial

    def resumed(self, epoch: int) -> Alone:
        """Return the trial that goes on after `epoch`, from that epoch's checkpoint."""
        state = torch.load(io.BytesIO(self.saved[epoch - 1]), weights_only=True)
        again = Alone(self.data, self.max_epochs, self.number, self.seed, self.device, self.precision)
        again.start_epoch, again.state = epoch, state
        return again


def main(trainable: str, train: Train, arguments: list[str] | None = None) -> None:
    """Train the default config on digits: 10 epochs, or with --smoke 2 epochs of 300 images."""
    from trainables.data import load

    parser = argparse.ArgumentParser(prog=f"python -m trainables.{trainable}", description=main.__doc__)
    parser.add_argument("--smoke", action="store_true", help="2 epochs of 300 images")
    smoke = parser.parse_args(arguments).smoke
    data = load({"name": "digits", "limit": 300 if smoke else None}, seed=0)
    train({}, Alone(data, max_epochs=2 if smoke else 10, verbose=True))
