"""What a sweep will do, before anything starts: bound, counted, costed, checked. No Ray."""

from __future__ import annotations

import dataclasses
import importlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tuner.cautions import cautions
from tuner.corners import ends
from tuner.disk import Need, estimate
from tuner.errors import DataError, Problem, ResourceError, SweepError
from tuner.learnt import sentence
from tuner.loading import BUILTINS
from tuner.machine import count_cpus, count_gpus, fitting
from tuner.precision import resolve as resolve_precision
from tuner.preflight import Preflight, known_data, preflight
from tuner.spec import Sweep
from tuner.strategies import Observation, Strategy, make_strategy
from tuner.strategies.base import config_key
from tuner.strategies.compiled import Compiled
from tuner.strategies.prior import earlier
from tuner.trainable import DataInfo

LISTED = 1_000
"""Configs that a plan lists at most."""

# Strategies whose configs do not depend on how training goes, nor on chance: a plan lists them.
_KNOWN_BEFORE = ("grid", "one_at_a_time", "manual")
_PREDICTED_BYTES = 4  # float32


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep bound to a machine.

    Args:
        sweep: The sweep with its resources resolved: gpus_per_trial and max_concurrent are numbers, and precision is
            "fp32" or "bf16".
        strategy: What proposes configs.
        proposals: Configs, at most.
        trials: Trials at most: each config as often as search.repeats says.
        epochs: Epochs of all trials together, at most.
        note: What the strategy has to say; may be empty.
        configs: The first LISTED configs of a strategy whose configs are known before it starts; else empty.
        cpus: Cores to share among trials.
        gpus: GPUs to share among trials.
        warnings: What a person may want to put right first, a sentence each.
        learnt: What each run of search.from tells, a sentence each.
        preflight: What building the models showed; None where the trainable offers none.
        data: What is known of the data; None where the sweep has none, or nothing is known.
        data_problem: Why the data cannot be used here; None where it can.
        impossible: Which request can never be met here; None where all can.
        disk: What it writes at most.
        precision: What models compute in, and where that was "auto" why.
    """

    sweep: Sweep
    strategy: str
    proposals: int
    trials: int
    epochs: int
    note: str
    configs: tuple[dict[str, Any], ...]
    cpus: int
    gpus: int
    preflight: Preflight | None
    data: DataInfo | None
    data_problem: str | None
    impossible: str | None
    disk: Need
    precision: str
    warnings: tuple[str, ...] = ()
    learnt: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise what would stop a run.

        Raises:
            ResourceError: A request that can never be met here.
            DataError: Data that is missing here.
            SweepError: No model of the space can be built, or earlier runs have left nothing to try.
        """
        if self.impossible:
            raise ResourceError(self.impossible)
        if self.data_problem:
            raise DataError(self.data_problem)
        if self.learnt and not self.proposals:
            rule = f"the runs in it have tried every config that {self.strategy} would propose"
            raise SweepError(
                self.sweep.name, [Problem("search.from", rule, remedy="Widen the space, or leave them out.")]
            )
        found = self.preflight
        if found and found.hopeless:
            first = found.collapsed[0]
            rule = f"none of its {found.checked} models can be built: {first.reason}"
            shown = ", ".join(f"{name}={value}" for name, value in first.config.items())
            raise SweepError(self.sweep.name, [Problem("space", rule, shown)])

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON has it."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("sweep", "preflight", "data", "configs", "warnings", "learnt", "disk")
        }
        return plain | {
            "warnings": list(self.warnings),
            "learnt": list(self.learnt),
            "disk": self.disk.to_dict(),
            "configs": list(self.configs),
            "data": dataclasses.asdict(self.data) if self.data else None,
            "preflight": self.preflight.to_dict() if self.preflight else None,
            "sweep": tomllib.loads(self.sweep.to_toml()),
            "baseline": self.sweep.baseline(),
        }


def make_plan(
    sweep: Sweep,
    cpus: int | None = None,
    gpus: int | None = None,
    *,
    memory: bool = True,
    origin: str | None = None,
    checkpoint: int | None = None,
    learnt: Sequence[Mapping[str, Any]] = (),
    here: bool = True,
    sound: Callable[[Sweep, int, int], None] | None = None,
) -> Plan:
    """Bind a sweep to a machine, count what it will do, and look for what would go wrong.

    Args:
        sweep: The sweep.
        cpus: Cores to share among trials; None: those that this process may use.
        gpus: GPUs to share among trials; None: those that this process may use.
        memory: Whether to estimate the memory of a trial, which costs 2 s.
        origin: Where a frozen trainable file came from, or None.
        checkpoint: Bytes of the largest checkpoint that the sweep has committed so far, or None.
        learnt: What the runs of search.from tell, as `tuner.warm_start.learn` reads it.
        here: Whether all trials will run on this machine; else precision "auto" is "fp32".
        sound: Called with the bound sweep, its cores and its GPUs before models are built with torch: nothing that can
            be found out sooner stops it.

    Returns:
        The plan; what would stop a run is in it, too, and raised by its check().

    Raises:
        UsageError: The trainable cannot be imported.
    """
    cpus = count_cpus() if cpus is None else cpus
    gpus = count_gpus() if gpus is None else gpus
    strategy = make_strategy(sweep)
    prior = earlier(learnt)
    proposals, left_out = _proposals(strategy, sweep, prior)
    trials = proposals * sweep.search.repeats
    data, data_problem = _describe_data(sweep)
    bound, precision = _bind(sweep, cpus, gpus, trials, here, data)
    configs = tuple(_known_configs(strategy, proposals, prior)) if strategy.name in _KNOWN_BEFORE else ()
    complete = configs if len(configs) == proposals else ()
    epochs = _epochs(sweep, proposals, complete) * sweep.search.repeats
    impossible = _impossible(bound, cpus, gpus)
    soon = bound.trainable in BUILTINS and not memory  # without torch
    models = preflight(bound, data, complete, memory=memory, origin=origin) if soon else None
    if sound and not impossible and not data_problem and proposals and not (models and models.hopeless):
        sound(bound, cpus, gpus)
    if not soon:
        models = preflight(bound, data, complete, memory=memory, origin=origin)
    plan = Plan(
        sweep=bound,
        strategy=strategy.name,
        proposals=proposals,
        trials=trials,
        epochs=epochs,
        note="; ".join(filter(None, (strategy.note, left_out))),
        configs=configs,
        cpus=cpus,
        gpus=gpus,
        preflight=models,
        data=data,
        data_problem=data_problem,
        impossible=impossible,
        disk=_disk(bound, trials, epochs, data, models, checkpoint),
        precision=precision,
        learnt=(*map(sentence, learnt), *_failing(sweep, prior)),
    )
    return dataclasses.replace(plan, warnings=tuple(cautions(plan, sweep)))


def _bind(sweep: Sweep, cpus: int, gpus: int, trials: int, here: bool, data: DataInfo | None) -> tuple[Sweep, str]:
    """Return the sweep with its resources resolved for this many cores and GPUs, and its precision in words."""
    asked = sweep.resources
    a_gpu = (1.0 if gpus else 0.0) if asked.gpus_per_trial is None else asked.gpus_per_trial
    room = fitting(asked.cpus_per_trial, a_gpu, cpus, gpus) * asked.lanes_each
    side_by_side = max(1, min(asked.max_concurrent or room, room, trials))
    precision, in_words = resolve_precision(sweep, "cuda" if a_gpu else "cpu", data=data, here=here)
    update = {"gpus_per_trial": a_gpu, "max_concurrent": side_by_side, "precision": precision}
    return sweep.model_copy(update={"resources": asked.model_copy(update=update)}), in_words


def _failing(sweep: Sweep, prior: Sequence[Observation]) -> Iterator[str]:
    """Yield where in the space the configs of earlier runs failed; one that breaks a constraint counts as failed."""
    if any(one.state == "failed" for one in prior):
        from tuner.strategies.regions import sentences

        tried = [(one.config, one.state == "failed") for one in prior if one.state in ("done", "failed")]
        happened = "failed or broke a constraint" if sweep.constraints else "failed"
        for region in sentences(sweep.space, tried, happened):
            yield f"earlier runs: {region}"


def _impossible(sweep: Sweep, cpus: int, gpus: int) -> str | None:
    """Return the request that can never be met here."""
    asked = sweep.resources
    if asked.cpus_per_trial > cpus:
        rule, got = f"at most {cpus} CPUs are here", f"{asked.cpus_per_trial:g}"
        remedy = "Lower it, or run on a larger machine or a cluster (--address)."
        return Problem("", rule, got, remedy).sentence("resources.cpus_per_trial")
    if (asked.gpus_per_trial or 0) > gpus:
        rule, got = f"at most {gpus} GPUs are here", f"{asked.gpus_per_trial:g}"
        remedy = "Set it to 0, or run on a machine with a GPU (--address)."
        return Problem("", rule, got, remedy).sentence("resources.gpus_per_trial")
    return None


def _proposals(strategy: Strategy, sweep: Sweep, prior: Sequence[Observation]) -> tuple[int, str]:
    """Return how many configs there will be at most, and what there is to say of those that are known already."""
    trials = sweep.search.trials
    most = min(trials, trials if strategy.total is None else strategy.total)
    known = {config_key(seen.config) for seen in prior}
    if strategy.total is None or not known:
        points = sum(config_key(point) in known for point in sweep.search.points)
        return most, f"{points} of search.points left out, as earlier runs have tried them" if points else ""
    if strategy.name in _KNOWN_BEFORE:
        listed = sum(1 for _ in _known_configs(strategy, most, prior))
        left = listed if listed < min(most, LISTED) else most
    else:
        left = max(0, min(trials, strategy.total - len(known & _counted(sweep, prior))))
    return left, "configs that earlier runs have tried are left out"


def _counted(sweep: Sweep, prior: Sequence[Observation]) -> set[str]:
    """Return the keys of the known configs that are among a strategy's total: no option without weight is."""
    if not sweep.space:
        return {config_key(point) for point in sweep.search.points}
    compiled = Compiled(sweep.space)
    return {config_key(seen.config) for seen in prior if compiled.encode(seen.config) is not None}


def _known_configs(strategy: Strategy, proposals: int, prior: Sequence[Observation] = ()) -> Iterator[dict[str, Any]]:
    """Yield what a strategy will propose, whatever becomes of it."""
    history = [*prior]
    for number in range(1, min(proposals, LISTED) + 1):
        proposal = strategy.ask(history)
        if proposal is None:
            return
        yield proposal.config
        history.append(Observation(number, proposal.config, "pending"))


def _epochs(sweep: Sweep, proposals: int, configs: tuple[dict[str, Any], ...]) -> int:
    """Return the most epochs that one repeat of all configs can take."""
    most, baseline = sweep.max_epochs, sweep.baseline()
    if sweep.trainable not in BUILTINS:  # what a user's function makes of a parameter is its own affair
        return proposals * most
    if configs:
        return sum(int(min((baseline | config).get("epochs", most), most)) for config in configs)
    values = [value for leaf in sweep.space.leaves() if leaf.name == "epochs" for value in ends(leaf.domain)]
    return proposals * int(min(max(values, default=baseline.get("epochs", most)), most))


def _disk(
    sweep: Sweep, trials: int, epochs: int, data: DataInfo | None, models: Preflight | None, checkpoint: int | None
) -> Need:
    """Return what a sweep writes at most: what a user's own function keeps is not known before it does."""
    largest = models.largest if models and sweep.trainable in BUILTINS else None
    side_by_side, prediction = sweep.resources.max_concurrent or 1, 0
    if data is not None and sweep.trainable in BUILTINS:
        prediction = data.n_val * max(1, len(data.classes)) * _PREDICTED_BYTES
    return estimate(
        trials=trials,
        epochs=epochs,
        side_by_side=side_by_side,
        keep=sweep.checkpoint.keep,
        repeats=sweep.search.repeats,
        checkpoint=largest.checkpoint_bytes if largest else checkpoint,
        prediction=prediction,
    )


def _describe_data(sweep: Sweep) -> tuple[DataInfo | None, str | None]:
    """Return what is known of the data, and why it cannot be used here."""
    if sweep.data is None:
        return None, None
    options = sweep.data.model_dump(exclude_none=True)
    try:
        return importlib.import_module("trainables.data").info(options, sweep.seed), None
    except DataError as error:
        return known_data(options), str(error)
