"""A group: the lanes of one stacked model, each at an epoch of its own, which join and leave between epochs."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.augment import augment
from trainables.chance import Chance
from trainables.inputs import Preparation, batches
from trainables.lanes.fusing import evaluation_batch, key
from trainables.lanes.losses import Loss
from trainables.lanes.samples import Shared
from trainables.lanes.stacked import Stack
from trainables.optimizers import Optimizer
from trainables.training import Build, Course, dropouts, new_model, precision, start_loss
from tuner.trainable import Data


@dataclass(frozen=True)
class Row:
    """What a lane's epoch gives: what the trial would report.

    Args:
        epoch: Just done, from 1.
        metrics: With the names that a lone trial reports. epoch_s is the lane's share of the group's epoch, so that
            the trials' seconds add up to those of the worker.
        predictions: Of the validation split, in its order; None without one.
    """

    epoch: int
    metrics: dict[str, float | None]
    predictions: NDArray[np.float32] | None


@dataclass(eq=False)
class Lane:
    """One trial's place in a group.

    Args:
        course: All of it but its model and its samples.
        epoch: Epochs done.
        waiting: Its state until the group's next epoch begins; then the group holds it.
        start_loss: The loss before its first step.
    """

    course: Course
    epoch: int
    waiting: Mapping[str, Any] | None
    start_loss: float | None = None


class Group:
    """Trials that train side by side; the first lane decides what the others must be like (`key`).

    Args:
        build: Makes a lone trial's model.
        device: Where to train.
        precision: What models compute in: "fp32" or "bf16".
    """

    def __init__(self, build: Build, device: torch.device, precision: str = "fp32") -> None:
        self.build, self.device, self.precision = build, device, precision
        self.lanes: list[Lane] = []
        self.key: Hashable = None
        self.shared = Shared(device)
        self.running: _Running | None = None

    def add(
        self,
        config: Mapping[str, Any],
        data: Data,
        epochs: int,
        seed: int,
        state: Mapping[str, Any] | None = None,
        start_epoch: int = 0,
    ) -> Lane:
        """Let a trial join, from the group's next epoch on.

        Args:
            config: A complete config.
            data: Its splits; those that another lane has too (the same arrays) are held once.
            epochs: How many it trains in all.
            seed: The trial's.
            state: What it, alone or in a lane, gave as state after start_epoch; None where it is new.
            start_epoch: Epochs done.

        Raises:
            ConfigError: The config does not fit the data.
            ValueError: It cannot be a lane of this group.
        """
        if self.lanes and self.key != key(config, data):
            raise ValueError(f"lanes of a group must have the same key, but got {key(config, data)} beside {self.key}")
        course = Course(config, data, epochs, seed, self.device, self.precision)
        lane = Lane(course, start_epoch, state)
        if state is None:
            model = new_model(self.build, config, data, seed, self.device)
            lane.start_loss = start_loss(course, model, *self.shared.place(data.train))
            lane.waiting = {"model": model.state_dict()}
        else:
            lane.start_loss = state.get("start_loss")
            course.schedule.load_state_dict(state["schedule"])
        self._change([*self.lanes, lane])
        self.key = key(config, data)
        return lane

    def remove(self, lane: Lane) -> None:
        """Let a lane leave; the others go on as if nothing had happened."""
        self._change([other for other in self.lanes if other is not lane])
        self.shared.keep([split for other in self.lanes for split in _splits(other)])

    def _change(self, lanes: list[Lane]) -> None:
        """Take the lanes' states out of the stacked model: the next epoch makes another."""
        for lane in self.lanes:
            if lane.waiting is None and lane in lanes:
                lane.waiting = self.state_dict(lane)
        self.lanes, self.running = lanes, None

    def state_dict(self, lane: Lane) -> dict[str, Any]:
        """Return a lane's state, as a lone trial reports it: copies of tensors, and plain values."""
        if self.running is None:  # no epoch has taken it up yet
            model, optimizer = _Running(self, [lane]).state_dict(0)
        else:
            model, optimizer = self.running.state_dict(self.lanes.index(lane))
        schedule = lane.course.schedule.state_dict()
        return {"model": model, "optimizer": optimizer, "schedule": schedule, "start_loss": lane.start_loss}

    def train_epoch(self) -> dict[Lane, Row]:
        """Train every lane for its next epoch, and measure it.

        On a GPU nothing waits for the device before the measured outputs are fetched.

        Raises:
            ValueError: There is no lane, or one has no epoch left.
        """
        if not self.lanes or any(lane.epoch >= lane.course.epochs for lane in self.lanes):
            raise ValueError("a group needs lanes, each with an epoch left to train; remove those that are done")
        started = time.perf_counter()
        if self.running is None:
            self.running = _Running(self, self.lanes)
            for lane in self.lanes:
                lane.waiting = None
        rates = self.running.train()
        measured = self.running.measure()
        share_s = (time.perf_counter() - started) / len(self.lanes)
        rows = {}
        for lane, rate, (metrics, predictions) in zip(self.lanes, rates, measured, strict=True):
            lane.epoch += 1
            lane.course.schedule.observe(metrics.get("val_loss", metrics["train_loss"]))
            of_fit = {"start_loss": lane.start_loss, "learning_rate": rate, "epoch_s": share_s}
            rows[lane] = Row(lane.epoch, metrics | of_fit, predictions)
        return rows


class _Running:
    """A group's lanes as they are between two changes of who is in it."""

    def __init__(self, group: Group, lanes: list[Lane]) -> None:
        self.lanes, self.courses, self.device = lanes, [lane.course for lane in lanes], group.device
        self.first = self.courses[0]
        self.batch_size = self.first.config["batch_size"]
        self.images = len(self.first.data.shape) == 3
        pattern = new_model(group.build, self.first.config, self.first.data, 0, group.device)
        self.stack = Stack(pattern, [course.config["dropout"] for course in self.courses])
        self.dropouts = dropouts(self.stack.model)
        self.optimizer = Optimizer(self.stack.flat, [course.config for course in self.courses])
        for row, lane in enumerate(lanes):
            assert lane.waiting is not None
            self.stack.load(row, lane.waiting["model"])
            if "optimizer" in lane.waiting:
                self.optimizer.load_state_dict(lane.waiting["optimizer"], row)
        self.prepare = Preparation.of_lanes([course.prepare for course in self.courses])
        self.shared = group.shared
        self.train_from = self._offsets([course.data.train for course in self.courses])
        self.val_from = None
        if self.first.data.val is not None:
            self.val_from = self._offsets([course.data.val for course in self.courses])
        self.loss = Loss(self.courses, self.device)
        kinds = [course.augment for course in self.courses]
        self.kinds = {
            kind: torch.tensor([lane for lane, other in enumerate(kinds) if other == kind], device=self.device)
            for kind in kinds
        }

    def _offsets(self, splits: list[Any]) -> Tensor:
        """Return where each lane's split begins among the shared samples, int64 (L,)."""
        return torch.tensor([self.shared.place(split)[1] for split in splits], device=self.device)

    def state_dict(self, row: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return copies of a lane's model and optimizer, as a lone trial has them."""
        kept = self.optimizer.state_dict(row)
        copies = {name: value.clone() if isinstance(value, Tensor) else value for name, value in kept.items()}
        return self.stack.state_dict(row), copies

    def train(self) -> list[float]:
        """Take one pass over each lane's training split; return the rate of each lane's first step."""
        self.stack.model.train()
        rates = [lane.course.schedule.of_epoch(lane.epoch + 1) for lane in self.lanes]
        self.optimizer.begin(rates)
        lucks = [lane.course.chance(lane.epoch + 1, len(self.dropouts)) for lane in self.lanes]
        for step, (raw, index, draws, keys) in enumerate(self._batches(lucks)):
            for layer, key_of_lanes in zip(self.dropouts, keys, strict=True):
                layer.key = key_of_lanes
            raw = self._augmented(raw, draws)
            with precision(self.device, self.first.precision):
                outputs = self.stack.model(self._prepared(raw))
            self.loss.backward(outputs.float(), self.shared.y[index].T)
            self.optimizer.step(step)
        self.stack.count(self.first.steps)
        return [of_lane[0] for of_lane in rates]

    def _batches(self, lucks: list[Chance]) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor]]:
        """Yield each step's samples (B, L, ...), indices (B, L), draws (B, L, 3) and dropout keys (layers, L)."""
        order = batches(torch.stack([luck.order for luck in lucks], 1) + self.train_from, self.batch_size)
        draws: tuple[Tensor | None, ...] = (None,) * len(order)
        some = next((luck.draws for luck in lucks if luck.draws is not None), None)
        if some is not None:
            # Lanes that augment nothing have draws too, which nothing looks at.
            of_lanes = [some if luck.draws is None else luck.draws for luck in lucks]
            draws = batches(torch.stack(of_lanes, 1), self.batch_size)
        keys = torch.stack([luck.keys for luck in lucks], 2)
        return zip(self.shared.all.take(order), order, draws, keys, strict=True)

    def _augmented(self, raw: Tensor, draws: Tensor | None) -> Tensor:
        """Return images (B, L, C, H, W), changed as each lane's config says."""
        if draws is None:
            return raw
        for how, lanes in self.kinds.items():
            if len(self.kinds) == 1:
                return augment(raw.flatten(0, 1), how, draws.flatten(0, 1)).view_as(raw)
            if how != "none":
                changed = augment(raw[:, lanes].flatten(0, 1), how, draws[:, lanes].flatten(0, 1))
                raw[:, lanes] = changed.view(len(raw), len(lanes), *raw.shape[2:])
        return raw

    def _prepared(self, raw: Tensor) -> Tensor:
        """Return the stacked model's input of raw samples (B, L, ...)."""
        return self.prepare(raw.flatten(1, 2)) if self.images else self.prepare(raw).transpose(0, 1)

    def measure(self) -> list[tuple[dict[str, float | None], NDArray[np.float32] | None]]:
        """Return each lane's metrics and predictions, as a lone trial's."""
        index = torch.stack([course.subset for course in self.courses], 1) + self.train_from
        train = self._outputs(index)
        val = None
        if self.val_from is not None:
            assert self.first.data.val is not None
            val = self._outputs(torch.arange(len(self.first.data.val), device=self.device)[:, None] + self.val_from)
        fetched = [part and (part[0].cpu().numpy(), part[1].cpu().numpy()) for part in (train, val)]
        return [
            course.measured(*(part and (part[0][lane], part[1][lane]) for part in fetched))
            for lane, course in enumerate(self.courses)
        ]

    @torch.inference_mode()
    def _outputs(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs (L, S, K), and targets (L, S), of samples (S, L)."""
        self.stack.model.eval()
        size = evaluation_batch(self.device, len(self.lanes))
        with precision(self.device, self.first.precision):
            outputs = [self.stack.model(self._prepared(raw)) for raw in self.shared.all.take(index.split(size))]
        return torch.cat(outputs, 1).float(), self.shared.y[index].T


def _splits(lane: Lane) -> list[Any]:
    data = lane.course.data
    return [data.train] if data.val is None else [data.train, data.val]
