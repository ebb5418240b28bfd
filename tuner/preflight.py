"""Before anything starts: are there models that cannot be built, and how large are those that can?

Models are built at the corners of the space on torch's meta device: shapes without numbers, so a network of any size
costs milliseconds and no memory. A built-in model is reckoned without torch (`trainables.sizes`), but for its memory:
the import of torch would hold up a sweep's start by more than all the rest of its plan.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tuner.corners import Config, Corners, distinct, ends, project
from tuner.errors import ConfigError
from tuner.loading import BUILTINS, load_trainable
from tuner.spec import Sweep
from tuner.trainable import DataInfo

if TYPE_CHECKING:
    import torch
    from torch import nn

MOST = 256
"""Corners that are built at most; beyond it, a seeded sample of them."""

Build = Callable[[Mapping[str, Any], DataInfo], Any]

# Numbers that each optimizer keeps for every weight, with momentum where it can have some.
_OPTIMIZER_STATE = {"sgd": 1, "rmsprop": 2, "adam": 2, "adamw": 2}

_FLOAT = 4  # bytes of a weight

# A checkpoint's generators, schedule and names, and its manifest.
_CHECKPOINT_BESIDES = 30_000

# What a config that does not fit its data makes build() or torch raise.
_REFUSALS = (ConfigError, RuntimeError, ValueError, ZeroDivisionError)


@dataclass(frozen=True)
class Built:
    """A config's model.

    Args:
        config: The parameters that shape it.
        parameters: Its weights.
        memory_bytes: What training it takes besides the libraries: weights, gradients, the optimizer's state, one
            batch, and on a GPU the data; each at its largest in the space. None where it was not measured.
            Within 30 % of what four models took on a CPU.
        checkpoint_bytes: What its checkpoint takes: weights, buffers and the optimizer's state at its largest.
    """

    config: Config
    parameters: int
    memory_bytes: int | None = None
    checkpoint_bytes: int = 0


@dataclass(frozen=True)
class Collapsed:
    """A config whose model cannot be built, and why; only the parameters that shape it."""

    config: Config
    reason: str


@dataclass(frozen=True)
class Preflight:
    """What building the models at the corners of a space has shown.

    Args:
        corners: How many different corners there are, as far as the models' shapes go.
        checked: How many of them were built: all, or a seeded sample of MOST.
        collapsed: Those that cannot be built.
        smallest: The one with the fewest parameters.
        largest: The one with the most parameters.
        hungriest: The one that takes most memory to train.
        skipped: Why models, or their memory, could not be looked at; empty where they could.
    """

    corners: int
    checked: int
    collapsed: tuple[Collapsed, ...] = ()
    smallest: Built | None = None
    largest: Built | None = None
    hungriest: Built | None = None
    skipped: str = ""

    @property
    def hopeless(self) -> bool:
        """Whether no model can be built."""
        return bool(self.collapsed) and len(self.collapsed) == self.checked

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Maker:
    """What a trainable's module offers.

    Args:
        build: Makes a model from a config and the data; of a built-in one that is not to be built, its size.
        shape: The parameters that change a tensor's shape; None where the module does not say.
        reckons: Whether `build` returns a size.
    """

    build: Build
    shape: tuple[str, ...] | None
    reckons: bool = False


@dataclass
class _Attempt:
    """What became of one config.

    Args:
        config: The parameters that shape it.
        refusal: Why it could not be built.
        sure: Whether that is said by the trainable itself (a ConfigError), and not by torch.
        parameters: Its weights.
        batch_refusal: Why a batch did not go through it.
        memory_bytes: See Built.
        checkpoint_bytes: See Built.
    """

    config: Config
    refusal: str = ""
    sure: bool = False
    parameters: int = 0
    batch_refusal: str = ""
    memory_bytes: int | None = None
    checkpoint_bytes: int = 0


@dataclass(frozen=True)
class _Load:
    """The heaviest training that a space allows.

    Args:
        batch: Samples in a training step.
        measuring: Samples that are measured at a time, without gradients.
        state: Numbers that the optimizer keeps for every weight.
        resident_bytes: Data that every trial holds for itself.
        measured: Whether a batch is run through the models at all.
    """

    batch: int = 1
    measuring: int = 0
    state: int = 0
    resident_bytes: int = 0
    measured: bool = False


class _NotOnMetaError(Exception):
    """A model that cannot be looked at without numbers; no fault of its config."""


def preflight(
    sweep: Sweep,
    data: DataInfo | None,
    configs: Sequence[Config] = (),
    *,
    memory: bool = True,
    origin: str | None = None,
) -> Preflight | None:
    """Build the models of a sweep on the meta device.

    Args:
        sweep: The sweep.
        data: What its models are built for.
        configs: All configs of the sweep where they are known before it starts; they are built instead of the corners.
        memory: Whether to run a batch through them, which costs 2 s once, for torch's shape formulas.
        origin: Where a frozen trainable file came from, or None.

    Returns:
        What was found; None where the trainable's module has no build(config, data), or there is no data.

    Raises:
        UsageError: The trainable's module cannot be imported.
    """
    maker = _maker(sweep.trainable, origin, built=memory)
    if maker is None or data is None:
        return None
    candidates, corners = _candidates(sweep, maker.shape, configs)
    load = _heaviest(sweep, data, memory)
    baseline = sweep.baseline()
    try:
        attempts = [_attempt(maker, baseline | config, data, load) for config in candidates]
    except _NotOnMetaError as error:
        return Preflight(corners, 0, skipped=str(error))
    for attempt, config in zip(attempts, candidates, strict=True):
        attempt.config = project(config, maker.shape)
    return _summary(attempts, corners)


def check_config(
    sweep: Sweep, data: DataInfo | None, config: Mapping[str, Any], origin: str | None = None
) -> str | None:
    """Return why a config cannot be built, as its trainable says (a ConfigError); None where it can be tried."""
    attempt = _built(sweep, data, config, origin)
    # What torch or the user's code raises may have to do with this process: the trial itself will tell.
    return attempt.refusal if attempt and attempt.sure else None


def count_parameters(
    sweep: Sweep, data: DataInfo | None, config: Mapping[str, Any], origin: str | None = None
) -> int | None:
    """Return the weights of a config's model; None where the trainable offers no build(), or it cannot be built."""
    attempt = _built(sweep, data, config, origin)
    return None if attempt is None or attempt.refusal else attempt.parameters


def _built(sweep: Sweep, data: DataInfo | None, config: Mapping[str, Any], origin: str | None) -> _Attempt | None:
    """Return what came of building a config's model; None where that cannot be tried here."""
    maker = _maker(sweep.trainable, origin)
    if maker is None or data is None:
        return None
    try:
        return _attempt(maker, sweep.baseline() | dict(config), data, _Load())
    except _NotOnMetaError:
        return None


def known_data(options: Mapping[str, Any]) -> DataInfo | None:
    """Return what is known of a set whose files are not here: enough to build models for it, or None."""
    name, side = options["name"], options.get("image_size")
    known = importlib.import_module("trainables.data.torchvision_sets").KNOWN.get(name)
    if known is not None:
        channels, height, width = known.shape
        return DataInfo(name, "classification", (channels, side or height, side or width), tuple(known.classes))
    if name == "images":
        return DataInfo(name, "classification", (3, side or 64, side or 64), ("a", "b"))
    return None


# -- what is built ---------------------------------------------------------------------------------------------------


def _maker(trainable: str | Callable[..., Any], origin: str | None, *, built: bool = False) -> _Maker | None:
    """Return what makes a trainable's models; None where it has nothing that does.

    Args:
        trainable: As a sweep names it.
        origin: Where a frozen trainable file came from, or None.
        built: Whether the models of a built-in one are to be built, and not reckoned.
    """
    if trainable in BUILTINS and not built:
        sizes = importlib.import_module("trainables.sizes")
        return _Maker(functools.partial(sizes.size, trainable), sizes.SHAPES[trainable], reckons=True)
    if isinstance(trainable, str) and not _may_offer_build(trainable):
        return None
    with contextlib.redirect_stdout(sys.stderr):  # the plan's own output may be read by a program
        _, module = load_trainable(trainable, origin)
    build = getattr(module, "build", None)
    if not callable(build) or not _takes_two(build):
        return None
    return _Maker(build, _shape(module))


def _may_offer_build(trainable: str) -> bool:
    """Return whether a file is worth running: a plan runs no code that has nothing to tell it."""
    path = Path(trainable.rpartition(":")[0])
    try:
        return path.suffix != ".py" or b"build" in path.read_bytes()
    except OSError:
        return True  # the loader says what is wrong with it


def _takes_two(build: Callable[..., Any]) -> bool:
    try:
        inspect.signature(build).bind("config", "data")
    except (TypeError, ValueError):
        return False
    return True


def _shape(module: ModuleType | None) -> tuple[str, ...] | None:
    shape = getattr(module, "SHAPE", None)
    return tuple(shape) if isinstance(shape, list | tuple | set | frozenset) else None


def _candidates(sweep: Sweep, names: Sequence[str] | None, configs: Sequence[Config]) -> tuple[list[Config], int]:
    """Return the configs to build, and of how many different ones."""
    known = distinct(configs, names)
    if known and len(known) <= MOST:
        return known, len(known)
    corners = Corners(sweep.space, names, sweep.baseline())
    count = corners.count()
    found = list(corners.all()) if count <= MOST else corners.some(MOST, sweep.seed)
    points = list(sweep.search.points)
    listed = distinct([*found, *points], names)
    return listed[:MOST], len(listed) if count <= MOST else count


def _heaviest(sweep: Sweep, data: DataInfo, memory: bool) -> _Load:
    """Return the most that any config of the sweep may take besides its model."""
    sizes = [v for v in _all_values(sweep, "batch_size") if isinstance(v, int) and v > 0] or [64]
    optimizers = [v for v in _all_values(sweep, "optimizer") if isinstance(v, str)]
    state = max((_OPTIMIZER_STATE.get(name, 2) for name in optimizers), default=2)
    on_gpu, resident, measuring = bool(sweep.resources.gpus_per_trial), 0, 0
    if memory and sweep.trainable in BUILTINS:
        batches = importlib.import_module("trainables.training").EVALUATION_BATCH
        measuring = min(batches["cuda" if on_gpu else "cpu"], data.n_val or sys.maxsize)
    if on_gpu:  # a CPU's trials share the data
        value_bytes = 1 if len(data.shape) == 3 else 4
        resident = (data.n_train + data.n_val) * math.prod(data.shape) * value_bytes
    return _Load(min(max(sizes), data.n_train or sys.maxsize), measuring, state, resident, memory)


def _all_values(sweep: Sweep, name: str) -> list[Any]:
    """Return the ends or options that a parameter has anywhere in the sweep; its baseline where it can have that."""
    leaves = [leaf for leaf in sweep.space.leaves() if leaf.name == name]
    values = [value for leaf in leaves for value in ends(leaf.domain)]
    values += [point[name] for point in sweep.search.points if name in point]
    always = any(not leaf.conditions for leaf in leaves)
    return values if always else [*values, sweep.baseline().get(name)]


# -- building --------------------------------------------------------------------------------------------------------


def _attempt(maker: _Maker, config: Config, data: DataInfo, load: _Load) -> _Attempt:
    """Build one config's model and run a batch through it.

    Raises:
        _NotOnMetaError: The model cannot be built on the meta device, whatever its config.
    """
    attempt = _Attempt(config)
    if maker.reckons:
        try:
            size = maker.build(config, data)
        except ConfigError as error:
            attempt.refusal, attempt.sure = _refusal(error), True
            return attempt
        attempt.parameters = size.parameters
        attempt.checkpoint_bytes = _checkpoint(size.parameters * _FLOAT, size.buffer_bytes, load)
        return attempt
    with _meta():
        try:
            model = maker.build(config, data)
        except Exception as error:
            attempt.refusal, attempt.sure = _refusal(error), isinstance(error, ConfigError)
            return attempt
        from torch import nn

        if not isinstance(model, nn.Module):
            raise _NotOnMetaError(f"build() returned a {type(model).__name__}, not a torch module")
        attempt.parameters = sum(weights.numel() for weights in model.parameters())
        weights, buffers = _bytes(model.parameters()), _bytes(model.buffers())
        attempt.checkpoint_bytes = _checkpoint(weights, buffers, load)
        if load.measured:
            try:
                attempt.memory_bytes = _memory(model, _input(maker, config, data), load)
            except Exception as error:
                attempt.batch_refusal = _refusal(error)
    return attempt


@contextlib.contextmanager
def _meta() -> Iterator[None]:
    import torch

    with (
        torch.device("meta"),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(sys.stderr),
    ):
        warnings.simplefilter("ignore")
        yield


def _refusal(error: Exception) -> str:
    """Return why a config was refused, in one line.

    Raises:
        _NotOnMetaError: It says nothing about the config.
    """
    text = " ".join(str(error).split())[:300]
    unfit = isinstance(error, NotImplementedError) or (isinstance(error, RuntimeError) and "meta" in text.split())
    if unfit or not isinstance(error, _REFUSALS):
        raise _NotOnMetaError(f"its models cannot be built without data: {type(error).__name__}: {text}") from error
    return text.rstrip(".") or type(error).__name__


def _input(maker: _Maker, config: Config, data: DataInfo) -> tuple[int, ...]:
    """Return one sample's shape as the model is given it: images are resized to a config's image_size."""
    side = config.get("image_size")
    if side and len(data.shape) == 3 and "image_size" in (maker.shape or ()):
        return (data.shape[0], side, side)
    return data.shape


def _checkpoint(weights: int, buffers: int, load: _Load) -> int:
    """Return a checkpoint's bytes, from those of a model's weights and buffers."""
    return _CHECKPOINT_BESIDES + weights * (1 + load.state) + buffers


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _memory(model: nn.Module, sample: tuple[int, ...], load: _Load) -> int:
    """Return the bytes that training takes: what autograd keeps of one batch is what the batch costs."""
    import torch
    from torch.autograd.graph import saved_tensors_hooks

    # A storage's address on the meta device is always 0, but its C++ object has one.
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    samples = max(load.batch, 2)  # batch norm cannot train on one
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model.train()(torch.empty((samples, *sample)))  # holds the graph, and so what it keeps
    weights = _bytes(model.parameters())
    largest = max(kept.values(), default=0)
    # Two of the largest layer pass by at a time: what it is made from, and its gradient.
    training, measuring = sum(kept.values()) + 2 * largest, 2 * largest * load.measuring // samples
    del outputs
    return weights * (2 + load.state) + max(training, measuring) + load.resident_bytes


# -- what it showed --------------------------------------------------------------------------------------------------


def _summary(attempts: list[_Attempt], corners: int) -> Preflight:
    built = [attempt for attempt in attempts if not attempt.refusal]
    refused = [Collapsed(attempt.config, attempt.refusal) for attempt in attempts if attempt.refusal]
    stuck = [attempt for attempt in built if attempt.batch_refusal]
    skipped = ""
    if not built and not any(attempt.sure for attempt in attempts):
        skipped, refused = f"its models cannot be built here: {refused[0].reason}", []
    elif built and len(stuck) == len(built):
        # Its own loop may well hand it batches of another form, so this is no reason to refuse anything.
        skipped = f"a batch in the data's shape does not fit its models: {stuck[0].batch_refusal}"
    else:
        built = [attempt for attempt in built if not attempt.batch_refusal]
        refused += [Collapsed(attempt.config, attempt.batch_refusal) for attempt in stuck]
    models = [Built(a.config, a.parameters, a.memory_bytes, a.checkpoint_bytes) for a in built]
    measured = [model for model in models if model.memory_bytes is not None]
    return Preflight(
        corners=corners,
        checked=len(attempts),
        collapsed=tuple(refused),
        smallest=min(models, key=lambda model: model.parameters, default=None),
        largest=max(models, key=lambda model: model.parameters, default=None),
        hungriest=max(measured, key=lambda model: model.memory_bytes or 0, default=None),
        skipped=skipped,
    )
