"""A plan for a person to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tuner.cautions import count
from tuner.cli.words import value
from tuner.disk import Need, size
from tuner.plan import Plan
from tuner.preflight import Preflight
from tuner.space import Choice, Domain, Fixed, Leaf, Normal, Range, Space
from tuner.trainable import DataInfo

ROWS = 40
"""Configs shown at most."""


def render(plan: Plan) -> RenderableType:
    """Return what would run, the space, the configs where they are known, and the warnings."""
    parts: list[RenderableType] = [Text(f"{plan.sweep.name}: {_title(plan)}", style="bold"), _facts(plan)]
    if plan.sweep.space:
        parts.append(Padding(_space(plan.sweep.space), (1, 0, 0, 2), expand=False))
    if plan.configs:
        parts.append(Padding(_Configs(plan), (1, 0, 0, 2), expand=False))
    if plan.warnings:
        parts.append(Padding(_warnings(plan), (1, 0, 0, 2), expand=False))
    return Group(*parts)


def _title(plan: Plan) -> str:
    trainable = plan.sweep.trainable
    name = trainable if isinstance(trainable, str) else getattr(trainable, "__name__", "a function")
    short = name.rsplit("/", 1)[-1]
    return f"{short} on {plan.sweep.data.name}" if plan.sweep.data else short


# -- facts -----------------------------------------------------------------------------------------------------------


def _facts(plan: Plan) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _fact_rows(plan):
        table.add_row(name, text)
    return Padding(table, (0, 0, 0, 2), expand=False)


def _fact_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    sweep = plan.sweep
    if plan.data is not None:
        yield "data", _data(plan.data)
    yield "search", _search(plan)
    if plan.note and not any(plan.note in warning for warning in plan.warnings):
        yield "", plan.note
    for number, sentence in enumerate(plan.learnt):
        yield "" if number else "learns from", sentence
    yield "budget", _budget(plan)
    ways = {sweep.metric: sweep.mode, **sweep.objectives}
    yield "best by", ", ".join(f"{name} ({'highest' if way == 'max' else 'lowest'})" for name, way in ways.items())
    if sweep.constraints:
        yield "such that", "; ".join(sweep.constraints)
    if sweep.stopping.rules:
        yield "stopping", "; ".join(_rule(rule, sweep.stopping.options.get(rule, {})) for rule in sweep.stopping.rules)
    yield "resources", _resources(plan)
    yield "precision", plan.precision
    if plan.preflight is not None:
        yield "models", _models(plan.preflight)
    yield "disk", _disk(plan.disk)


def _data(data: DataInfo) -> str:
    shape = "x".join(str(side) for side in data.shape) if len(data.shape) == 3 else count(data.shape[0], "column")
    target = count(len(data.classes), "class", "classes") if data.classes else "a value to predict"
    counts = f"{data.n_train:,} train, {data.n_val:,} validation; " if data.n_train else ""
    return f"{counts}{shape}; {target}"


def _search(plan: Plan) -> str:
    search = plan.sweep.search
    points = f", the first {len(search.points)} from search.points" if search.points and not plan.configs else ""
    less = ", less those told" if plan.learnt else ""
    random = f", {search.initial_random} random first{less}" if search.initial_random else ""
    return f"{plan.strategy}: {count(plan.proposals, 'config')}{points}{random}"


def _budget(plan: Plan) -> str:
    search, asked = plan.sweep.search, plan.sweep.resources
    repeats = f" ({search.repeats} seeds a config)" if search.repeats > 1 else ""
    limits = [
        *([count(asked.epoch_budget, "epoch")] if asked.epoch_budget else []),
        *([count(asked.gpu_hours_budget, "GPU-hour")] if asked.gpu_hours_budget else []),
        *([f"{asked.time_budget_s:g} s"] if asked.time_budget_s else []),
    ]
    most = f"{count(plan.trials, 'trial')}{repeats}, {count(plan.epochs, 'epoch')} at most"
    if not limits:
        return most
    stops = ", and what runs is stopped at its next report" if asked.at_budget == "stop" else ""
    return f"{most}; no new trial after {' or '.join(limits)}{stops}"


def _rule(name: str, options: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{option} {value(given)}" for option, given in options.items())
    return f"{name} ({shown})" if shown else name


def _resources(plan: Plan) -> str:
    asked = plan.sweep.resources
    each = count(asked.cpus_per_trial, "CPU")
    if asked.gpus_per_trial:
        each += f" and {count(asked.gpus_per_trial, 'GPU')}"
    here = f"{count(plan.cpus, 'CPU')} and {count(plan.gpus, 'GPU') if plan.gpus else 'no GPU'}"
    if asked.lanes_each == 1:
        probed = "; lanes: measured when the run starts" if asked.lanes == "auto" else ""
        return f"{each} a trial, {asked.max_concurrent or 1} at a time; here: {here}{probed}"
    return f"{each} a group of {asked.lanes_each} lanes, {asked.max_concurrent or 1} trials at a time; here: {here}"


def _disk(need: Need) -> str:
    if need.checkpoints is None:
        return f"about {size(need.total)}, and checkpoints, of a size yet unknown"
    shares = [("checkpoints", need.checkpoints), ("predictions", need.predictions)]
    parts = [f"{name} {size(amount)}" for name, amount in shares if amount]
    return f"about {size(need.total)}" + (f" at most ({', '.join(parts)})" if parts else "")


def _models(found: Preflight) -> str:
    if found.smallest is None or found.largest is None:
        return found.skipped or "none can be built"
    low, high = found.smallest.parameters, found.largest.parameters
    parts = [f"{low:,} to {high:,} parameters" if low != high else count(high, "parameter")]
    if found.hungriest is not None:
        parts.append(f"at most {size(found.hungriest.memory_bytes or 0)} a trial")
    if found.checked < found.corners:
        parts.append(f"by {found.checked} of {found.corners:,} corners of the space")
    return "; ".join([", ".join(parts), *([found.skipped] if found.skipped else [])])


# -- tables ----------------------------------------------------------------------------------------------------------


def _space(space: Space) -> Table:
    leaves = space.leaves()
    conditional = any(leaf.conditions for leaf in leaves)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("parameter", no_wrap=True)
    table.add_column("domain", overflow="fold")
    if conditional:
        table.add_column("when", overflow="fold")
    options = {leaf.label: leaf.domain for leaf in leaves}
    for leaf in leaves:
        table.add_row(leaf.name, domain_text(leaf.domain), *([_when(leaf, options)] if conditional else []))
    return table


def domain_text(domain: Domain) -> str:
    """Return a domain for a person: "0.001 to 0.5, log scale"."""
    if isinstance(domain, Fixed):
        return f"{value(domain.value)}, fixed"
    if isinstance(domain, Choice):
        weights = f" (weights {', '.join(value(w) for w in domain.weights)})" if domain.weights else ""
        return ", ".join(value(option) for option in domain.options) + weights
    if isinstance(domain, Range):
        return _range_text(domain)
    if isinstance(domain, Normal):
        bounds = f", {value(domain.bounds[0])} to {value(domain.bounds[1])}" if domain.bounds else ""
        step = f", steps of {value(domain.step)}" if domain.step else ""
        return f"{domain.kind}, mu {value(domain.mu)}, sigma {value(domain.sigma)}{bounds}{step}"
    return domain.rule()


def _range_text(domain: Range) -> str:
    parts = [f"{value(domain.low)} to {value(domain.high)}"]
    if domain.integer:
        parts.append("whole")
    if domain.step:
        parts.append(f"steps of {value(domain.step)}")
    if domain.log:
        parts.append("log scale")
    if domain.points:
        parts.append(f"{domain.points} points")
    return ", ".join(parts)


def _when(leaf: Leaf, domains: Mapping[str, Domain]) -> str:
    conditions = []
    for label, index in leaf.conditions:
        domain = domains[label]
        option = domain.options[index] if isinstance(domain, Choice) else index
        conditions.append(f"{label.rsplit('/', 1)[-1]} = {value(option)}")
    return " and ".join(conditions)


class _Configs:
    """The first ROWS configs: a column a parameter where the terminal is wide enough, else one for all of them."""

    def __init__(self, plan: Plan) -> None:
        shown = plan.configs[:ROWS]
        self._rest = plan.proposals - len(shown)
        # Only what differs tells configs apart.
        names = [name for name in _names(plan.configs) if len({repr(c.get(name)) for c in plan.configs}) > 1]
        self._names = names or _names(plan.configs)
        self._rows = [[value(config[name]) if name in config else "" for name in self._names] for config in shown]
        if plan.strategy == "one_at_a_time":
            self._lines = [_changes(self._names, row, self._rows[0]) for row in self._rows]
        else:
            self._lines = [_line(self._names, row) for row in self._rows]
        self._one_column = plan.strategy == "one_at_a_time"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = zip(self._names, *self._rows, strict=True)
        width = sum(max(len(text) for text in column) + 3 for column in columns) + len("config")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("config", justify="right", style="dim")
        if self._one_column or width > options.max_width:
            table.add_column("values", overflow="fold")
            rows = [[line] for line in self._lines]
        else:
            for name in self._names:
                table.add_column(name, justify="right", no_wrap=True)
            rows = self._rows
        for number, row in enumerate(rows, start=1):
            table.add_row(str(number), *row)
        yield table
        if self._rest > 0:
            yield Text(f"... and {self._rest:,} more", style="dim")


def _line(names: Sequence[str], row: Sequence[str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in zip(names, row, strict=True) if text)


def _changes(names: Sequence[str], row: Sequence[str], first: Sequence[str]) -> str:
    """Return what a config changes of the first one; the first one whole."""
    if row is first:
        return _line(names, row)
    changed = [index for index in range(len(names)) if row[index] != first[index]]
    return _line([names[index] for index in changed], [row[index] for index in changed])


def _names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for config in configs for name in config))


def _warnings(plan: Plan) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="yellow", no_wrap=True)
    table.add_column(overflow="fold")
    for warning in plan.warnings:
        table.add_row("warning:", Text(warning))
    return table
