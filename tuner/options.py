"""Tables of options, such as [stopping.asha] and [search.gp]: what a table may hold, and its mistakes as Problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from tuner.errors import Problem, nearest

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_KINDS = {
    "int_type": "a whole number is needed",
    "float_type": "a number is needed",
    "bool_type": "true or false is needed",
    "string_type": "a string is needed",
    "dict_type": "a table is needed",
    "finite_number": "a finite number is needed",
}


class Options(BaseModel):
    """One table: its fields are its options. Frozen, without unknown keys, and without guessing ("8" is no number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def mistakes(model: type[BaseModel], key: str, table: Mapping[str, Any]) -> list[Problem]:
    """Return every mistake in a table of options.

    Args:
        model: What the table may hold.
        key: Its dotted key, such as "stopping.asha".
        table: As written.
    """
    try:
        model.model_validate(dict(table))
    except ValidationError as error:
        return [_problem(model, key, detail) for detail in error.errors()]
    return []


def _problem(model: type[BaseModel], key: str, detail: ErrorDetails) -> Problem:
    option = ".".join(str(part) for part in detail["loc"])
    where = f"{key}.{option}" if option else key
    if detail["type"] == "extra_forbidden":
        remedy = nearest(option, model.model_fields) or "It has none; remove it."
        return Problem(where, "unknown option", "", remedy)
    if detail["type"] == "missing":
        return Problem(where, "is required")
    return Problem(where, _broken_rule(option, detail), repr(detail["input"]))


def _broken_rule(option: str, detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    for name, limit in context.items():
        if name in _BOUNDS:
            return f"{option} {_BOUNDS[name]} {limit} must hold"
    if detail["type"] == "literal_error":
        return f"{option} must be {context['expected']}"
    if detail["type"] == "value_error":  # raised by a check of this project's own, which words it
        return str(context["error"])
    return _KINDS.get(detail["type"], detail["msg"])
