"""The mistakes that a [stopping] table can hold, as Problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tuner.errors import Problem, nearest
from tuner.stopping.base import Rule

Registry = Mapping[str, type[Rule]]

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_KINDS = {
    "int_type": "a whole number is needed",
    "float_type": "a number is needed",
    "bool_type": "true or false is needed",
    "string_type": "a string is needed",
    "finite_number": "a finite number is needed",
}


def check(registry: Registry, rules: Sequence[str], options: Mapping[str, Any]) -> list[Problem]:
    """Return every mistake in the rules' names and in their option tables."""
    problems = list(_check_names(registry, rules))
    for name, table in options.items():
        problems += _check_table(registry, rules, name, table)
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
    return problems + _check_options(registry[name], key, table)


def _check_options(rule: type[Rule], key: str, table: Mapping[str, Any]) -> list[Problem]:
    try:
        rule.model_validate(dict(table))
    except ValidationError as error:
        return [_problem(rule, key, detail) for detail in error.errors()]
    return []


def _problem(rule: type[Rule], key: str, detail: ErrorDetails) -> Problem:
    option = ".".join(str(part) for part in detail["loc"])
    where = f"{key}.{option}" if option else key
    if detail["type"] == "extra_forbidden":
        return Problem(where, "unknown option", "", nearest(option, rule.model_fields))
    return Problem(where, _broken_rule(option, detail), repr(detail["input"]))


def _broken_rule(option: str, detail: ErrorDetails) -> str:
    for name, limit in detail.get("ctx", {}).items():
        if name in _BOUNDS:
            return f"{option} {_BOUNDS[name]} {limit} must hold"
    return _KINDS.get(detail["type"], detail["msg"])
