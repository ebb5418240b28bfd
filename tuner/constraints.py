"""Constraints that the best config must meet, such as `params < 200_000`. Pure."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tuner.errors import Problem, nearest

PARAMS, EPOCH_S = "params", "epoch_s"
# What is known of a trial though no epoch reports it: weights of its model, and seconds an epoch.
DERIVED = (PARAMS, EPOCH_S)

_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_FORM = re.compile(r"\s*([^\s<>=\d][^\s<>=]*)\s*(<=|>=|<|>)\s*([^\s<>=]+)\s*")
_EXAMPLE = 'Write a metric, one of < <= > >=, and a number, like "params < 200_000".'


@dataclass(frozen=True)
class Constraint:
    """`name sign limit`: what a metric must be at a trial's best epoch."""

    name: str
    sign: str
    limit: float

    def holds(self, value: float | None) -> bool:
        """Return whether a value meets it; one that is missing or not finite does not."""
        return value is not None and math.isfinite(value) and bool(_SIGNS[self.sign](value, self.limit))

    def sentence(self, value: float | None) -> str:
        """Return what is wrong with a value."""
        got = "none was reported" if value is None else f"got ({_number(value)})"
        return f"{self.name} must be {self.sign} {_number(self.limit)} (sweep.constraints), but {got}."


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 and value == int(value) else f"{value:g}"


def read(texts: Iterable[str]) -> tuple[Constraint, ...]:
    """Return constraints that have been checked."""
    return tuple(made for text in texts if isinstance(made := parse(text, ""), Constraint))


def parse(text: str, key: str) -> Constraint | Problem:
    """Return a constraint, or what is wrong with it.

    Args:
        text: As written.
        key: Where it is written.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        return Problem(key, "must be a metric, a sign and a number", f'"{text}"', _EXAMPLE)
    name, sign, number = match.groups()
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        return Problem(key, "must end in a finite number", f'"{text}"', _EXAMPLE)
    return Constraint(name, sign, limit)


def unknown(name: str, known: Iterable[str], key: str, text: str) -> Problem | None:
    """Return what is wrong with a metric's name where a trainable's metrics are known; None where nothing is."""
    names = [*known, *DERIVED]
    if name in names:
        return None
    return Problem(key, f"{name} is no metric of the trainable", text, nearest(name, names))


def never_reported(asked: Mapping[str, str], reported: Sequence[str]) -> str | None:
    """Return what is wrong with a trial that is over, and has not reported what was asked of it; None: it has.

    Args:
        asked: Metric -> which key of the sweep asks for it.
        reported: Every metric that an epoch of the trial has reported.
    """
    missing = next((name for name in asked if name not in reported), None)
    if missing is None:
        return None
    close = difflib.get_close_matches(missing, reported, n=1, cutoff=0.5)
    remedy = f'Write "{close[0]}" there, or rename it in the trainable' if close else "Report it, or leave it out there"
    if missing == PARAMS:
        remedy = "Nobody else counts the weights of this trainable: report them, or leave it out there"
    return (
        f'trial.report must give "{missing}", which {asked[missing]} asks for, in at least one epoch, '
        f"but got ({', '.join(reported) or 'no metrics'}). {remedy}, and start another sweep."
    )
