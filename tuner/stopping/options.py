"""The mistakes that a [stopping] table can hold, as Problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.errors import Problem, nearest
from tuner.options import mistakes
from tuner.stopping.base import Rule

Registry = Mapping[str, type[Rule]]


def check(registry: Registry, rules: Sequence[str], options: Mapping[str, Any]) -> list[Problem]:
    """Return every mistake in the rules' names and in their option tables."""
    problems = list(_check_names(registry, rules))
    for name, table in options.items():
        problems += _check_table(registry, rules, name, table)
    for name in rules:  # a rule may need an option
        if name in registry and name not in options:
            problems += mistakes(registry[name], f"stopping.{name}", {})
    return problems


def _check_names(registry: Registry, rules: Sequence[str]) -> Iterator[Problem]:
    for position, name in enumerate(rules):
        if name not in registry:
            yield Problem("stopping.rules", "unknown rule", repr(name), nearest(str(name), registry))
        elif name in rules[:position]:
            yield Problem("stopping.rules", "each rule stands once", f"{name!r} twice")


def _check_table(registry: Registry, rules: Sequence[str], name: str, table: Any) -> list[Problem]:
    key = f"stopping.{name}"
    if name not in registry:
        return [Problem(key, "unknown key", "", nearest(name, ["rules", *registry]))]
    problems = []
    if name not in rules:
        remedy = f'Add "{name}" to rules, or remove the table.'
        problems.append(Problem(key, "options of a rule that is not in rules", f"rules={list(rules)}", remedy))
    if not isinstance(table, Mapping):
        return [*problems, Problem(key, "a table of options is needed", repr(table))]
    return problems + mistakes(registry[name], key, table)
