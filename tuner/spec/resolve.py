"""From what was written to what a sweep is: every default filled in, every mistake collected."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.constraints import parse as parse_constraint
from tuner.constraints import unknown
from tuner.errors import Problem, SweepError, nearest
from tuner.space import Fixed, Space
from tuner.space.values import option_texts, toml_key, under
from tuner.spec.checks import Written, check_sweep, complete_points, walk
from tuner.spec.code import check_trainable, is_builtin, own_defaults, short_name
from tuner.spec.data import resolve_data
from tuner.spec.metrics import better_way, known_metrics, resolve_metric, task_of
from tuner.spec.tables import (
    TABLES,
    CheckpointSpec,
    DataSpec,
    FailureSpec,
    HeadSpec,
    ResourcesSpec,
    SearchSpec,
    StoppingSpec,
    StudySpec,
    as_table,
    home_of,
    keys_of,
    read_table,
)
from tuner.spec.text import plain, toml_text


def resolve(
    tables: Mapping[str, Any], stem: str, prefix: str, source: str, problems: Sequence[Problem] = ()
) -> dict[str, Any]:
    """Return the values of every field of a Sweep.

    Args:
        tables: The tables as written, with absolute paths; "sweep" holds what stands under [sweep].
        stem: The sweep's name where none is given; "" for the trainable's own name.
        prefix: What the keys under [sweep] begin with: "sweep." in a file, "" in Python.
        source: The file, or "Sweep(...)".
        problems: Mistakes found before.

    Raises:
        SweepError: With every mistake found.
    """
    found = [*problems, *_unknown_tables(tables)]
    head = read_table(HeadSpec, as_table(tables.get("sweep")), prefix.rstrip("."), found) or HeadSpec()
    sweep: dict[str, Any] = {"seed": head.seed, "max_epochs": head.max_epochs}
    sweep["trainable"] = _trainable(head.trainable, f"{prefix}trainable", found)
    sweep["name"] = _name(head.name, stem or short_name(sweep["trainable"] or "sweep"), prefix, found)
    sweep["data"] = resolve_data(as_table(tables["data"]) if "data" in tables else None, found)
    sweep["metric"], sweep["mode"] = _metric(head, sweep, "data" in tables, prefix, found)
    sweep["constraints"] = head.constraints
    found.extend(_wrong_constraints(head.constraints, sweep, prefix))
    sweep["objectives"] = head.objectives
    found.extend(_wrong_objectives(sweep, prefix))
    sweep["space"], written = _space(tables.get("space"), found)
    sweep["defaults"] = _defaults(tables.get("defaults"), found)
    own = baseline(sweep["trainable"], sweep["defaults"])
    sweep["search"] = _search(as_table(tables.get("search")), sweep["space"], sweep["trainable"], own, found)
    sweep["stopping"] = _stopping(as_table(tables.get("stopping")), found)
    for name, model in (
        ("resources", ResourcesSpec),
        ("checkpoint", CheckpointSpec),
        ("failure", FailureSpec),
        ("study", StudySpec),
    ):
        sweep[name] = read_table(model, as_table(tables.get(name)), name, found)
    check_sweep(sweep, written, own, prefix, found)
    if found:
        raise SweepError(source, _once(found))
    return sweep


def baseline(trainable: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sweep's defaults laid over the trainable's own."""
    if is_builtin(trainable):
        own = importlib.import_module("trainables.parameters").DEFAULTS[trainable]
    else:
        own = own_defaults(trainable) if trainable else {}
    return {**own, **defaults}


def _unknown_tables(tables: Mapping[str, Any]) -> list[Problem]:
    """Return the tables that no sweep has; what stands outside of its table is told where it belongs."""
    problems = []
    for name, value in tables.items():
        home = home_of(name)
        if name in TABLES:
            continue
        if home and not isinstance(value, Mapping):
            rule, remedy = "must stand inside a table", f"Write it under [{home}]."
            problems.append(Problem(name, rule, toml_text(value), remedy))
        else:
            problems.append(Problem(name, "there is no such table", remedy=nearest(name, TABLES)))
    return problems


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """Drop what follows from an earlier mistake at the same key, and put the rest in the order of the tables.

    A domain can break several rules that have nothing to do with each other, so those stay.
    """
    first: dict[Any, Problem] = {}
    for problem in problems:
        first.setdefault(problem if problem.key.startswith("space.") else problem.key, problem)
    order = {table: position for position, table in enumerate(TABLES)}
    return sorted(first.values(), key=lambda problem: order.get(problem.key.partition(".")[0], 0))


def _trainable(trainable: Any, key: str, problems: list[Problem]) -> Any:
    """Return the trainable, or None where it is missing or wrong."""
    if trainable is None:
        remedy = 'Name a built-in ("cnn", "resnet", "mlp"), or your own: "path/to/file.py:function".'
        problem: Problem | None = Problem(key, "is required", remedy=remedy)
    elif isinstance(trainable, str) or callable(trainable):
        problem = check_trainable(trainable, key)
    else:
        remedy = 'Write it like "cnn", or "path/to/file.py:function".'
        problem = Problem(key, "must be a name or a function", toml_text(trainable), remedy)
    if problem:
        problems.append(problem)
    return None if problem else trainable


def _name(name: str | None, otherwise: str, prefix: str, problems: list[Problem]) -> str:
    if name == "latest":
        rule = 'may not be "latest", by which commands mean the newest run'
        problems.append(Problem(f"{prefix}name", rule, remedy="Choose another name."))
    return name or re.sub(r"[^A-Za-z0-9_.-]+", "-", otherwise).strip("-.")[:100] or "sweep"


def _metric(
    head: HeadSpec, sweep: Mapping[str, Any], has_data: bool, prefix: str, problems: list[Problem]
) -> tuple[str | None, str | None]:
    """Return metric and mode, as far as trainable and data are known."""
    data, builtin = sweep["data"], is_builtin(sweep["trainable"])
    if builtin and not has_data:
        remedy = 'Add [data] with name = "digits", or another set.'
        problems.append(Problem("data", f"is required for the built-in {sweep['trainable']}", remedy=remedy))
    if head.metric is None and (sweep["trainable"] is None or (builtin and data is None)):
        return None, head.mode  # what would be asked for hangs on a mistake already found
    task = _task(data, builtin and head.metric is None, problems)
    if builtin and head.metric is None and task is None:
        return None, head.mode
    # A misspelt name is meant to be a built-in one, and so is its metric.
    meant = builtin or (isinstance(head.trainable, str) and head.trainable.isidentifier())
    return resolve_metric(head.metric, head.mode, task, meant, prefix, problems)


def _wrong_constraints(texts: Sequence[str], sweep: Mapping[str, Any], prefix: str) -> Iterator[Problem]:
    """Yield what is wrong with each constraint; of a user's function any metric may be meant."""
    for index, text in enumerate(texts):
        key = f"{prefix}constraints[{index}]"
        made = parse_constraint(text, key)
        if isinstance(made, Problem):
            yield made
        elif is_builtin(sweep["trainable"]):
            task = _task(sweep["data"], False, [])
            wrong = unknown(made.name, known_metrics(task), key, f'"{text}"')
            yield from [wrong] if wrong else []


def _wrong_objectives(sweep: Mapping[str, Any], prefix: str) -> Iterator[Problem]:
    """Yield what is wrong with each objective; of a user's function any metric may be meant."""
    for name, mode in sweep["objectives"].items():
        key, text = under(f"{prefix}objectives", name), f'{name} = "{mode}"'
        if name == sweep["metric"]:
            yield Problem(key, "is the sweep's metric, which is an objective already", text, "Leave it out.")
        elif is_builtin(sweep["trainable"]):
            task = _task(sweep["data"], False, [])
            if wrong := unknown(name, known_metrics(task), key, text):
                yield wrong
            elif (better := better_way(name)) not in (None, mode):
                yield Problem(key, f'must be "{better}"', text, f'Write {name} = "{better}".')


def _task(data: DataSpec | None, needed: bool, problems: list[Problem]) -> str | None:
    if data is None or (data.name == "table" and (data.path is None or data.target is None)):
        return None
    return task_of(data.model_dump(exclude_none=True), needed, problems)


def _space(raw: Any, problems: list[Problem]) -> tuple[Space | None, Written]:
    """Return the space, None where it has mistakes; and each parameter that stands in it, to be checked further."""
    try:
        space = Space.parse({} if raw is None else raw, "space")
        return space, Written(list(walk(space)))
    except SweepError as error:
        problems.extend(error.problems)
    written = Written([])
    _read_one_by_one(raw, "space", written)
    return None, written


def _read_one_by_one(table: Any, key: str, written: Written) -> None:
    """Read each parameter of a space with mistakes by itself, those of a choice's branches, too."""
    for name, value in table.items() if isinstance(table, Mapping) else ():
        where = under(key, str(name))
        try:
            written.domains.extend(walk(Space.parse({name: value}, key), key))
            continue
        except SweepError:
            branches = value.get("when") if isinstance(value, Mapping) else None
        try:
            alone = {part: entry for part, entry in value.items() if part != "when"} if branches else value
            written.domains.extend(walk(Space.parse({name: alone}, key), key))
        except SweepError:
            written.unread.append((where, str(name)))
        for option, branch in branches.items() if isinstance(branches, Mapping) else ():
            _read_one_by_one(branch, f"{where}.when.{toml_key(option_texts([option])[0])}", written)


def _defaults(raw: Any, problems: list[Problem]) -> dict[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        problems.append(Problem("defaults", "must be a table", toml_text(raw), "Write it as [defaults]."))
        return {}
    return {str(name): plain(value) for name, value in raw.items()}


def _search(
    raw: Any, space: Space | None, trainable: Any, own: Mapping[str, Any], problems: list[Problem]
) -> SearchSpec | None:
    """Return [search] with its defaults; None where its strategy is unknown."""
    keys, tables = _apart(raw)
    keys = _with_best(keys, space, trainable, own, problems)
    search = read_table(SearchSpec, keys, "search", problems)
    if search is None:
        return None
    given = search.model_dump(exclude_none=True, exclude_unset=True, by_alias=True)
    if search.points and space is not None and not space:
        given.setdefault("strategy", "manual")
    strategy = given.setdefault("strategy", search.strategy)
    strategies = importlib.import_module("tuner.strategies")
    names = tuple(strategies.STRATEGIES)
    if strategy not in names:
        rule = "must be the name of a strategy"
        problems.append(Problem("search.strategy", rule, toml_text(strategy), nearest(strategy, names)))
        return None
    if strategy == "manual" and search.points:
        given.setdefault("trials", len(search.points))
    if strategy in strategies.RANDOM_START:
        width = sum(not isinstance(leaf.domain, Fixed) for leaf in space.leaves()) if space else 0
        given.setdefault("initial_random", strategies.random_start(strategy, search.trials, width))
    elif search.initial_random is not None:
        rule, remedy = f"is not an option of {strategy}", 'Remove it, or set strategy = "auto".'
        problems.append(Problem("search.initial_random", rule, toml_text(search.initial_random), remedy))
    given["points"] = complete_points(search.points, space, own, problems)
    found = strategies.check(strategy, tables)
    problems.extend(found)
    given["options"] = {} if found else strategies.filled(strategy, tables.get(strategy, {}))
    return SearchSpec.model_validate(given)


def _with_best(raw: Any, space: Space | None, trainable: Any, own: Mapping[str, Any], problems: list[Problem]) -> Any:
    """Return [search] with configs in place of the runs among its points."""
    points = raw.get("points") if isinstance(raw, Mapping) else None
    if not isinstance(points, list | tuple) or not any(isinstance(point, str) for point in points):
        return raw
    warm_start = importlib.import_module("tuner.warm_start")  # reads runs, of which nothing else here knows
    found: list[Any] = []
    for index, point in enumerate(points):
        if isinstance(point, str) and space is not None:
            point = warm_start.best_point(point, space, trainable, own, f"search.points[{index}]", problems)
        if point is not None and not isinstance(point, str):
            found.append(point)
    return {**raw, "points": found}


def _apart(raw: Any) -> tuple[Any, dict[str, Any]]:
    """Return [search] without the tables in it, and these: the options of strategies."""
    if not isinstance(raw, Mapping):
        return raw, {}
    names = tuple(importlib.import_module("tuner.strategies").STRATEGIES)
    tables = {
        name: plain(value)
        for name, value in raw.items()
        if name in names or (isinstance(value, Mapping) and name not in keys_of(SearchSpec))
    }
    return {name: value for name, value in raw.items() if name not in tables}, tables


def _stopping(raw: Any, problems: list[Problem]) -> StoppingSpec | None:
    """Return [stopping] with each rule's options filled in; None where something is wrong."""
    if not isinstance(raw, Mapping):
        problems.append(Problem("stopping", "must be a table", toml_text(raw), "Write it as [stopping]."))
        return None
    spec = read_table(StoppingSpec, {"rules": raw.get("rules")}, "stopping", problems)
    if spec is None:
        return None
    options = {name: plain(value) for name, value in raw.items() if name != "rules"}
    stopping = importlib.import_module("tuner.stopping")
    mistakes = stopping.check(spec.rules, options)
    problems.extend(mistakes)
    if mistakes:
        return None
    rules = {name: stopping.RULES[name](**options.get(name, {})) for name in spec.rules}
    filled = {name: rule.model_dump(mode="json", exclude_none=True) for name, rule in rules.items()}
    return StoppingSpec(rules=spec.rules, options=filled)
