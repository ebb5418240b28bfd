"""What a trainable is given, and what it may offer. numpy only; no torch, no Ray.

A trainable is a function `train(config, trial) -> None`. Its module may also offer
DEFAULTS (its baseline config), SHAPE (the parameters that change a tensor's shape) and
`build(config, data)` (the model); what it lacks is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from tuner.errors import StopTrial

__all__ = ["Data", "DataInfo", "Split", "StopTrial", "Train", "Trial"]

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Split:
    """One split of a data set; read-only arrays that all trials of a node share.

    Args:
        x: Images as uint8 (N, C, H, W), or table rows as float32 (N, F), already encoded and scaled.
        y: Class indices as int64 (N,), or values as float32 (N,).
    """

    x: NDArray[Any]
    y: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class DataInfo:
    """What a model needs to know of a data set before a sample is decoded.

    Args:
        name: The data set's name, such as "digits".
        task: "classification" or "regression".
        shape: One sample's shape: (C, H, W) for images, (F,) for tables.
        classes: The classes' names in index order; empty for regression.
        n_train: Samples in the training split; 0 where it is not known yet.
        n_val: Samples in the validation split; 0 where it is not known yet.
    """

    name: str
    task: Task
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    n_train: int = 0
    n_val: int = 0

    @property
    def outputs(self) -> int:
        """Width of the model's last layer: one a class, or 1 for regression."""
        return len(self.classes) if self.task == "classification" else 1


@dataclass(frozen=True)
class Data(DataInfo):
    """Training and validation splits. The test split is not here, and cannot be reached from here.

    Args:
        train: The training split.
        val: The validation split; None when the study's winner is retrained on both.
        preprocess: JSON-able: how a raw sample becomes `x` (mean and std a channel in 0..1 for images;
            column maps, fills and scales for tables), fitted on the training split only.
    """

    train: Split = field(kw_only=True)
    val: Split | None = field(kw_only=True)
    preprocess: Mapping[str, Any] = field(kw_only=True, default_factory=dict)


class Trial(Protocol):
    """What a trainable sees of its trial."""

    number: int
    """The trial's number in its sweep, from 1."""
    seed: int
    """Seeds everything random in this trial; Python, NumPy and torch are seeded with it already."""
    device: str
    """ "cpu" or "cuda"."""
    precision: str
    """What models are to compute in: "fp32" or "bf16" (autocast; weights stay float32)."""
    data: Data | None
    """Training and validation splits; None where the sweep has no [data]."""
    max_epochs: int
    """The most epochs this trial may train."""

    @property
    def start_epoch(self) -> int:
        """Epochs already done and kept: 0 in a fresh trial."""

    @property
    def state(self) -> dict[str, Any] | None:
        """What the last kept report gave as state, or None.

        In a resumed trial, reading this or start_epoch also puts Python's, NumPy's, torch's and CUDA's random state
        where it was at that report. So make the model first: what follows is then as if nothing had happened.
        """

    def report(
        self,
        *,
        epoch: int,
        state: dict[str, Any] | None = None,
        predictions: NDArray[Any] | None = None,
        **metrics: float | None,
    ) -> None:
        """Hand over the metrics of one epoch; they are committed to the journal before it returns.

        Args:
            epoch: The epoch just done, from 1; each is one more than the one before.
            state: Tensors and plain values to resume from (weights_only must be able to load it).
            predictions: Validation predictions in the order of trial.data.val: class probabilities
                (N, K), or values (N,).
            **metrics: Numbers; None where a metric is not defined this epoch.

        Raises:
            StopTrial: When a stopping rule ended the trial; let it pass.
        """


Train = Callable[[dict[str, Any], Trial], None]
