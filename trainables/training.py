"""The one training loop: cnn, resnet and mlp differ only in the model they build.

Everything random in an epoch follows from (the trial's seed, the epoch). So a trial that is resumed at any
epoch, in any process, goes on bit for bit (with one thread, on one kind of machine), and its state needs no
generator's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from trainables import metrics
from trainables.augment import augment
from trainables.chance import Chance, chance
from trainables.inputs import Preparation, batches, derive, steps
from trainables.layers import Dropout
from trainables.optimizers import Schedule, make_optimizer
from trainables.samples import Samples
from tuner.errors import ConfigError, DataError
from tuner.trainable import Data, DataInfo, Trial

Build = Callable[[Mapping[str, Any], DataInfo], nn.Module]

EVALUATION_BATCH = {"cpu": 128, "cuda": 4096}
"""Samples measured at a time: as many as stay in a CPU's cache, or fill a GPU."""

START_SAMPLES = 1024
"""At most so many samples are measured before the first step."""

STATE = ("model", "optimizer", "schedule")
"""The parts of a trial's state; state["model"] is the model's state_dict."""

TRAIN_METRICS = {"classification": ("loss", "accuracy"), "regression": ("loss",)}


def fit(build: Build, config: Mapping[str, Any], trial: Trial) -> None:
    """Train a model, reporting every epoch until the epochs are over or a rule stops the trial.

    The metric epoch_s is the time of training and measuring, without the report; start_loss is the loss before the
    first step, in every row of a trial: what its learning rate is judged by.

    Args:
        build: Makes the model from a config and the data.
        config: A complete config.
        trial: Its data, its device, and where it left off.

    Raises:
        ConfigError: The config does not fit the data.
        StopTrial: From trial.report.
    """
    if trial.data is None:
        raise DataError("a built-in trainable needs data; add a [data] table to the sweep")
    epochs = min(config.get("epochs", trial.max_epochs), trial.max_epochs)
    learner = Learner(build, config, trial.data, epochs, trial.seed, torch.device(trial.device), trial.precision)
    if trial.state is None:
        start = learner.start_loss()
    else:
        learner.load_state_dict(trial.state)
        start = trial.state.get("start_loss")
    for epoch in range(trial.start_epoch + 1, epochs + 1):
        started = time.perf_counter()
        rate = learner.train_epoch(epoch)
        measured, predictions = learner.measure()
        learner.schedule.observe(measured.get("val_loss", measured["train_loss"]))
        trial.report(
            epoch=epoch,
            state={**learner.state_dict(), "start_loss": start},
            predictions=predictions,
            **measured,
            start_loss=start,
            learning_rate=rate,
            epoch_s=time.perf_counter() - started,
        )


Measured = tuple[NDArray[np.float32], NDArray[Any]]
"""A model's outputs (N, K), and what they should have been (N,)."""


class Course:
    """All of a trial but its model and its samples: what it has in common alone and in a lane.

    Args:
        config: A complete config.
        data: Its splits.
        epochs: The schedule's horizon.
        seed: The trial's.
        device: Where it is trained.
        precision: What the model computes in: "fp32" or "bf16".
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        data: Data,
        epochs: int,
        seed: int,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        self.config, self.data, self.seed, self.device, self.epochs = config, data, seed, device, epochs
        self.precision = precision
        self.prepare = Preparation(config, data, data.preprocess, device)
        self.steps = steps(len(data.train), config["batch_size"])
        self.schedule = Schedule(config, epochs, self.steps)
        self.subset = training_subset(data, seed, device)
        self.scale = target_scale(data)
        self.class_weights = class_weights(data, config, device)
        self.augment = config.get("augment", "none")

    def chance(self, epoch: int, layers: int) -> Chance:
        """Return what an epoch, from 1, leaves to chance in a model with so many dropout layers."""
        augmented, samples = self.augment != "none", len(self.data.train)
        return chance(self.seed, epoch, samples, self.steps, layers, augmented=augmented, device=self.device)

    def measured(self, train: Measured, val: Measured | None) -> tuple[metrics.Metrics, NDArray[np.float32] | None]:
        """Return an epoch's metrics, train_ and val_, and the validation predictions, None without such a split."""
        found, _ = self._judged(*train)
        reported = {f"train_{name}": found[name] for name in TRAIN_METRICS[self.data.task]}
        if val is None:
            return reported, None
        found, predictions = self._judged(*val)
        return reported | {f"val_{name}": value for name, value in found.items()}, predictions

    def loss(self, measured: Measured) -> float:
        """Return the plain loss of outputs."""
        return float(self._judged(*measured)[0]["loss"])

    def _judged(self, outputs: NDArray[np.float32], y: NDArray[Any]) -> tuple[metrics.Metrics, NDArray[np.float32]]:
        values = as_predictions(outputs, self.data.task, self.scale)
        of_task = {"classification": metrics.classification, "regression": metrics.regression}
        return of_task[self.data.task](values, y), values.astype(np.float32)


def new_model(build: Build, config: Mapping[str, Any], data: DataInfo, seed: int, device: torch.device) -> nn.Module:
    """Return a trial's untrained model on the device; its weights follow from the trial's seed."""
    torch.backends.cudnn.deterministic = True  # on a GPU too, the same seed gives the same metrics
    torch.manual_seed(derive(seed, "weights"))
    model = build(config, data).to(device, memory_format=torch.channels_last)
    _refuse_batches_of_one(model, config)
    return model


def dropouts(model: nn.Module) -> list[Dropout]:
    """Return a model's dropout layers, in their order."""
    return [layer for layer in model.modules() if isinstance(layer, Dropout)]


def start_loss(course: Course, model: nn.Module, train: Samples, offset: int = 0) -> float:
    """Return a model's training loss as it is now, on at most 1,024 samples.

    Args:
        course: The trial's.
        model: Its own.
        train: Where its training split is.
        offset: At which sample it begins there.
    """
    index = course.subset[:START_SAMPLES] + offset
    raw = train.take(index.split(EVALUATION_BATCH[course.device.type]))
    outputs = infer(model, course.prepare, raw, course.precision)
    return course.loss((outputs, train.y[index].cpu().numpy()))


class Learner:
    """A model in training: everything that fit needs from one epoch to the next.

    Args:
        build: Makes the model from a config and the data.
        config: A complete config.
        data: Its splits are put on the device where they fit.
        epochs: The schedule's horizon.
        seed: The trial's.
        device: Where to train.
        precision: What the model computes in, "fp32" or "bf16"; weights and optimizer are float32 in either case.

    Raises:
        ConfigError: The config does not fit the data.
    """

    def __init__(
        self,
        build: Build,
        config: Mapping[str, Any],
        data: Data,
        epochs: int,
        seed: int,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        self.config, self.data, self.device = config, data, device
        self.course = Course(config, data, epochs, seed, device, precision)
        self.model = new_model(build, config, data, seed, device)
        self.dropouts = dropouts(self.model)
        self.optimizer = make_optimizer(self.model, config)
        self.schedule, self.prepare = self.course.schedule, self.course.prepare
        self.train = Samples(data.train, device)
        self.val = None if data.val is None else Samples(data.val, device)
        self.subset = self.course.subset
        self.batch = EVALUATION_BATCH[device.type]

    def train_epoch(self, epoch: int) -> float:
        """Take one pass over the training split and return the first step's learning rate.

        On a GPU nothing in here waits for the device.
        """
        self.model.train()
        rates, luck = self.schedule.of_epoch(epoch), self.course.chance(epoch, len(self.dropouts))
        self.optimizer.begin([rates])
        size, how = self.config["batch_size"], self.course.augment
        draws = [None] * len(rates) if luck.draws is None else batches(luck.draws, size)
        order = batches(luck.order, size)
        taken = zip(self.train.take(order), order, draws, luck.keys, strict=True)
        for step, (raw, index, draw, keys) in enumerate(taken):
            for layer, key in zip(self.dropouts, keys, strict=True):
                layer.key = key
            x = self.prepare(augment(raw, how, draw))
            with precision(self.device, self.course.precision):
                outputs = self.model(x)
            loss = self._loss(outputs.float(), self.train.y[index])
            loss.backward()
            self.optimizer.step(step)
        return rates[0]

    def _loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the training loss of outputs (B, K): what the optimizer sees, and no metric."""
        if self.data.task == "regression":
            mean, std = self.course.scale
            return F.mse_loss(outputs.squeeze(1), (y - mean) / std)
        smoothing = self.config["label_smoothing"]
        return F.cross_entropy(outputs, y, weight=self.course.class_weights, label_smoothing=smoothing)

    def start_loss(self) -> float:
        """Return the training loss as it is now, measured as in `measure`, on at most 1,024 samples."""
        return start_loss(self.course, self.model, self.train)

    def measure(self) -> tuple[metrics.Metrics, NDArray[np.float32] | None]:
        """Return the epoch's metrics and the validation predictions, None without such a split.

        Training and validation are measured alike: evaluation mode, plain loss, no augmentation, smoothing,
        class weight or penalty; training on a fixed random subset of the validation split's size.
        """
        raw = self.train.take(self.subset.split(self.batch))
        train = infer(self.model, self.prepare, raw, self.course.precision), self.train.y[self.subset].cpu().numpy()
        if self.val is None:
            return self.course.measured(train, None)
        outputs = infer(self.model, self.prepare, self.val.parts(self.batch), self.course.precision)
        val = outputs, self.val.y.cpu().numpy()
        return self.course.measured(train, val)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed trial needs: tensors (not copies) and plain values."""
        parts = (self.model, self.optimizer, self.schedule)
        return {name: part.state_dict() for name, part in zip(STATE, parts, strict=True)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        for name, part in zip(STATE, (self.model, self.optimizer, self.schedule), strict=True):
            part.load_state_dict(state[name])


def score(
    build: Build,
    config: Mapping[str, Any],
    data: Data,
    state: Mapping[str, Any],
    seed: int,
    device: str = "cpu",
    precision: str = "fp32",
) -> tuple[metrics.Metrics, NDArray[np.float32]]:
    """Return metrics and predictions of a trained model on `data.val`, named as in a report: val_accuracy, ...

    Args:
        build: Makes the model from a config and the data.
        config: A config of the trainable, as fit() was given it.
        data: What it was trained on as train; what it is to be scored on as val.
        state: What fit() reported as state.
        seed: The trial's.
        device: "cpu" or "cuda".
        precision: What it was trained in, so that its score is of what its validation scores are.
    """
    learner = Learner(build, config, data, 1, seed, torch.device(device), precision)
    learner.model.load_state_dict(state["model"])
    reported, predictions = learner.measure()
    assert predictions is not None, "there must be a split to score on"
    return {name: value for name, value in reported.items() if name.startswith("val_")}, predictions


def precision(device: torch.device, kind: str = "fp32") -> contextlib.AbstractContextManager[Any]:
    """Return the context that models run in: the one place for a device's autocast.

    Only the model's forward pass belongs in it: outputs are made float32 again before a loss or a softmax.

    Args:
        device: Where the model is.
        kind: "fp32" (on a GPU too: its 32 bits, not TF32's 19), or "bf16".
    """
    if kind == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return contextlib.nullcontext()


@torch.inference_mode()
def infer(model: nn.Module, prepare: Preparation, raw: Iterable[Tensor], kind: str = "fp32") -> NDArray[np.float32]:
    """Return a model's outputs (N, K), in evaluation mode, for raw batches; the device is waited for once.

    Args:
        model: The model.
        prepare: Makes its inputs of raw batches.
        raw: The batches.
        kind: What the model computes in, "fp32" or "bf16"; the outputs are float32.
    """
    model.eval()
    with precision(prepare.device, kind):
        outputs = [model(prepare(batch)) for batch in raw]
    return torch.cat(outputs).float().cpu().numpy()


def as_predictions(outputs: NDArray[Any], task: str, scale: tuple[float, float]) -> NDArray[np.float64]:
    """Return class probabilities (N, K), or values (N,) in the target's own units, of outputs (N, K)."""
    if task == "classification":
        return metrics.softmax(outputs)
    mean, std = scale
    return outputs[:, 0].astype(np.float64) * std + mean


def target_scale(data: Data) -> tuple[float, float]:
    """Return mean and standard deviation of a regression's target; (0, 1) for classes."""
    if data.task == "classification":
        return 0.0, 1.0
    mean = data.preprocess.get("target_mean", data.train.y.mean(dtype=np.float64))
    std = data.preprocess.get("target_std", data.train.y.std(dtype=np.float64))
    return float(mean), float(std) or 1.0


def class_weights(data: Data, config: Mapping[str, Any], device: torch.device) -> Tensor | None:
    """Return weights (K,) by which every class counts the same in the loss, or None where samples do."""
    if data.task == "regression" or config["class_weights"] == "none":
        return None
    counts = np.bincount(data.train.y, minlength=data.outputs)
    balanced = len(data.train) / (np.maximum(counts, 1) * data.outputs)
    return torch.tensor(balanced, dtype=torch.float32, device=device)


def training_subset(data: Data, seed: int, device: torch.device) -> Tensor:
    """Return the indices of the training samples that are measured: as many as validation has.

    A quarter of them where there is no validation split.
    """
    wanted = len(data.train) // 4 + 1 if data.val is None else len(data.val)
    generator = Generator().manual_seed(derive(seed, "subset"))
    return torch.randperm(len(data.train), generator=generator)[:wanted].sort().values.to(device)


def _refuse_batches_of_one(model: nn.Module, config: Mapping[str, Any]) -> None:
    normed = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())
    if normed and config["batch_size"] == 1:
        raise ConfigError("batch norm has no statistics of one sample, but got (batch_size=1). Use 2 or more.")
