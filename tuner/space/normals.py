"""Normal, LogNormal: bell-shaped domains, truncated where they have bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import Any, ClassVar

from tuner.errors import Problem, SweepError
from tuner.space.checks import normal_problems
from tuner.space.domain import Lattice, Numeric
from tuner.space.values import exact, plain, refuse

STANDARD = NormalDist()
LEAST_QUANTILE = 2.0**-53  # of an unbounded tail: 8.2 sigma from mu
LEAST_MASS = 1e-280  # of a truncated distribution, so that floats can count its quantiles
LARGEST_LOG = 700.0  # exp of it is still a float


@dataclass(frozen=True)
class Normal(Numeric):
    """A normal distribution.

    Args:
        mu: Its mean.
        sigma: Its standard deviation, above 0.
        step: Values are multiples of it (counted from 0, not from mu). None: continuous.
        bounds: (low, high), both included: the distribution is truncated there. None: unbounded.

    Raises:
        SweepError: With every mistake in the arguments.
    """

    mu: float
    sigma: float
    step: float | None = field(default=None, kw_only=True)
    bounds: tuple[float, float] | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        mu, sigma, step, bounds = (plain(v) for v in (self.mu, self.sigma, self.step, self.bounds))
        source = f"{type(self).__name__}(...)"
        refuse(source, normal_problems(mu, sigma, step, bounds, log=self.log))
        object.__setattr__(self, "mu", float(mu))
        object.__setattr__(self, "sigma", float(sigma))
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "bounds", None if bounds is None else (float(bounds[0]), float(bounds[1])))
        refuse(source, self._emptiness())

    def _emptiness(self) -> list[Problem]:
        """Return why there is nothing to draw: bounds between two steps, or far out in a tail."""
        key, got = "bounds" if self.bounds else "step", f"mu={self.mu}, sigma={self.sigma}"
        if self._ends[0] > self._ends[1]:
            return [Problem(key, f"a multiple of the step {self.step} must lie within bounds", str(self.bounds))]
        if self._quantiles[1] - self._quantiles[0] < LEAST_MASS:
            remedy = "Use a wider sigma, or uniform."
            return [Problem(key, f"the distribution must reach {self.rule()}", got, remedy)]
        return []

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """The lowest and the highest value, both included; infinite (log: 0) where there is none."""
        low, high = self.bounds or (0.0 if self.log else -math.inf, math.inf)
        if self.step is None:
            return low, high
        if self.bounds is None:  # a lognormal is never 0, so it starts at the first step
            return (float(self.step) if self.log else low), high
        step = exact(self.step)
        return float(math.ceil(exact(low) / step) * step), float(math.floor(exact(high) / step) * step)

    @cached_property
    def lattice(self) -> Lattice | None:
        """The multiples of the step within bounds; None where there is no step, or no bounds."""
        if self.step is None or self.bounds is None:
            return None
        return Lattice(*self._ends, self.step)

    # Quantiles are counted from the nearer tail, for floats are fine near 0 but coarse near 1: a distribution
    # that lies above mu as a whole is mirrored.

    @cached_property
    def _mirrored(self) -> bool:
        return self._edges[0] > 0

    @cached_property
    def _edges(self) -> tuple[float, float]:
        """Where the distribution is cut, in sigmas from mu: half a step outside the ends, as for a range."""
        half = self.step / 2 if self.step is not None else 0.0
        return self._sigmas(self._ends[0] - half), self._sigmas(self._ends[1] + half)

    @cached_property
    def _quantiles(self) -> tuple[float, float]:
        low, high = self._edges
        return (_quantile(-high), _quantile(-low)) if self._mirrored else (_quantile(low), _quantile(high))

    def _sigmas(self, value: float) -> float:
        """Return how many sigmas from mu a value lies."""
        if self.log:
            value = math.log(value) if value > 0 else -math.inf
        return (value - self.mu) / self.sigma

    def _value(self, sigmas: float) -> float:
        value = self.mu + self.sigma * sigmas
        return math.exp(min(max(value, -LARGEST_LOG), LARGEST_LOG)) if self.log else value

    @property
    def latent(self) -> tuple[float, float]:
        """The quantiles of the truncated distribution: 0 to 1."""
        return 0.0, 1.0

    def from_latent(self, u: float) -> float:
        if self.bounds is None:
            u = min(max(u, LEAST_QUANTILE), 1 - LEAST_QUANTILE)
        elif u <= 0 or u >= 1:
            return self._ends[0] if u <= 0 else self._ends[1]
        start, end = self._quantiles
        p = start + (1 - u if self._mirrored else u) * (end - start)
        sigmas = STANDARD.inv_cdf(min(max(p, LEAST_MASS), 1 - LEAST_QUANTILE))
        return self.snap(self._value(-sigmas if self._mirrored else sigmas))

    def to_latent(self, value: float) -> float:
        start, end = self._quantiles
        sigmas = self._sigmas(value)
        p = (_quantile(-sigmas if self._mirrored else sigmas) - start) / (end - start)
        return min(max(1 - p if self._mirrored else p, 0.0), 1.0)

    def snap(self, value: float) -> float:
        if self.step is not None:
            value = float(round(value / self.step) * exact(self.step))
        return float(min(max(value, self._ends[0]), self._ends[1]))

    def holds(self, value: float) -> bool:
        low, high = self._ends
        if not low <= value <= high or not math.isfinite(value) or (self.log and value <= 0):
            return False
        return self.step is None or abs(value - self.snap(value)) <= 1e-9 * self.step

    def grid_problems(self, key: str = "") -> list[Problem]:
        remedy = "Use uniform or loguniform with points, or a choice."
        return [Problem(key, f"a grid cannot cut a {self.kind} evenly", self.rule(), remedy)]

    def grid(self) -> list[float]:
        raise SweepError(repr(self), self.grid_problems())

    def rule(self) -> str:
        low, high = self._ends
        ends = f" from {low} to {high}" if self.bounds else " above 0" if self.log else ""
        return f"a number{ends}" + (f" in steps of {self.step}" if self.step is not None else "")

    def to_table(self) -> dict[str, Any]:
        bounds = None if self.bounds is None else list(self.bounds)
        options = {"step": self.step, "bounds": bounds}
        return {self.kind: [self.mu, self.sigma]} | {k: v for k, v in options.items() if v is not None}


@dataclass(frozen=True)
class LogNormal(Normal):
    """Numbers above 0 whose logarithm is normal.

    Arguments as for `Normal`: mu and sigma are those of the logarithm, step and bounds (above 0) those of the
    value.
    """

    kind: ClassVar[str] = "lognormal"
    log: ClassVar[bool] = True


def _quantile(sigmas: float) -> float:
    """Return the share of a standard normal below `sigmas`; by erfc, so exact far out in the lower tail."""
    return 0.5 * math.erfc(-sigmas / math.sqrt(2))
