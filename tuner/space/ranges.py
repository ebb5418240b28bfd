"""Uniform, LogUniform, Int, LogInt: ranges from low to high, both included."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from tuner.errors import Problem
from tuner.space.checks import range_problems
from tuner.space.domain import Lattice, Numeric
from tuner.space.values import exact, plain, refuse, under

SUGGESTED_POINTS = 5


@dataclass(frozen=True)
class Range(Numeric):
    """A range of numbers, uniform on a linear or on a log scale.

    Args:
        low: The lowest value, included.
        high: The highest value, included; above `low`.
        step: Distance between neighbouring values, counted from `low`; it must divide the range.
            None: continuous (of ints: 1).
        points: Into how many values (2 or more) grid and one_at_a_time cut the range, evenly on its own
            scale, ends included. None: those strategies refuse it.

    Raises:
        SweepError: With every mistake in the arguments.
    """

    low: float
    high: float
    step: float | None = field(default=None, kw_only=True)
    points: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("low", "high", "step", "points"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        low, high, log, integer = self.low, self.high, self.log, self.integer
        problems = range_problems(low, high, self.step, self.points, log=log, integer=integer)
        refuse(f"{type(self).__name__}(...)", problems)
        if not self.integer:
            object.__setattr__(self, "low", float(low))
            object.__setattr__(self, "high", float(high))

    @cached_property
    def lattice(self) -> Lattice | None:
        """The values of a range of ints or with a step; None where the range is continuous."""
        if self.integer or self.step is not None:
            return Lattice(self.low, self.high, self.step or 1)
        return None

    @cached_property
    def latent(self) -> tuple[float, float]:
        """The ends on the linear or log scale, half a step outside them.

        With that margin the ends are as likely as the values between them.
        """
        half = self.lattice.step / 2 if self.lattice else 0.0
        if not self.log:
            return self.low - half, self.high + half
        # The lower margin stops at low / 2, for low - half may be zero or less.
        return math.log(self.low) + math.log(max(0.5, 1 - half / self.low)), math.log(self.high + half)

    def from_latent(self, u: float) -> float:
        start, end = self.latent
        if u <= start or u >= end:
            return self.low if u <= start else self.high
        return self.snap(math.exp(u) if self.log else u)

    def to_latent(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    def snap(self, value: float) -> float:
        if self.lattice is not None:
            return self.lattice.nearest(value)
        return min(max(float(value), self.low), self.high)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high and (self.lattice is None or self.lattice.holds(value))

    def grid_problems(self, key: str = "") -> list[Problem]:
        if self.points is not None:
            return []
        points = min(self.size() or SUGGESTED_POINTS, SUGGESTED_POINTS)
        rule = "a grid must know into how many values to cut a range"
        return [Problem(under(key, "points"), rule, self.rule(), f"Add points = {points}.")]

    def grid(self) -> list[float]:
        refuse(repr(self), self.grid_problems())
        last = (self.points or 2) - 1
        inner = [self.snap(self._between(index, last)) for index in range(1, last)]
        return list(dict.fromkeys([self.low, *inner, self.high]))

    def _between(self, index: int, last: int) -> float:
        """Return the value that lies index / last of the way from low to high, on the domain's own scale."""
        if not self.log:
            return float(exact(self.low) + (exact(self.high) - exact(self.low)) * index / last)
        way = (math.log(self.high) - math.log(self.low)) * index / last
        # 12 digits: 0.01 in the middle of 0.001 and 0.1, not 0.010000000000000002.
        return float(f"{self.low * math.exp(way):.12g}")

    def rule(self) -> str:
        noun = "an integer" if self.integer else "a number"
        steps = f" in steps of {self.step}" if self.step is not None else ""
        return f"{noun} from {self.low} to {self.high}{steps}"

    def to_table(self) -> dict[str, Any]:
        options = {"step": self.step, "points": self.points}
        return {self.kind: [self.low, self.high]} | {k: v for k, v in options.items() if v is not None}


@dataclass(frozen=True)
class Uniform(Range):
    """Every number from low to high alike; arguments as for `Range`."""

    kind: ClassVar[str] = "uniform"


@dataclass(frozen=True)
class LogUniform(Range):
    """Numbers above 0 whose logarithm is uniform, each decade alike; arguments as for `Range`."""

    kind: ClassVar[str] = "loguniform"
    log: ClassVar[bool] = True


@dataclass(frozen=True)
class Int(Range):
    """Every integer from low to high alike; arguments as for `Range`, ends and step integers."""

    kind: ClassVar[str] = "int"
    integer: ClassVar[bool] = True


@dataclass(frozen=True)
class LogInt(Range):
    """Integers above 0, each decade alike; arguments as for `Range`, ends and step integers."""

    kind: ClassVar[str] = "logint"
    integer: ClassVar[bool] = True
    log: ClassVar[bool] = True
