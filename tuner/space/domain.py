"""What every domain offers, and what numeric ones share: a latent interval on which they are uniform."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from tuner.errors import Problem
from tuner.space.values import exact, is_number, plain


class Domain(ABC):
    """The values that one name of a space can take. Frozen; both ends are included."""

    @abstractmethod
    def sample(self, rng: random.Random) -> Any:
        """Draw one value."""

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Say whether the domain can give `value`, of that type."""

    @abstractmethod
    def size(self) -> int | None:
        """Return the number of distinct values; None where they cannot be counted."""

    @abstractmethod
    def values(self) -> Iterator[Any]:
        """Yield every value of a countable domain in order; ValueError for any other."""

    @abstractmethod
    def grid(self) -> list[Any]:
        """Return the values that grid and one_at_a_time try; SweepError where `grid_problems` has any."""

    @abstractmethod
    def grid_problems(self, key: str = "") -> list[Problem]:
        """Return what keeps this domain out of a grid, with the line to add."""

    @abstractmethod
    def rule(self) -> str:
        """Return what a value must be, as in "a number from 0.0 to 1.0"."""

    @abstractmethod
    def to_table(self) -> Any:
        """Return the form that a TOML file has for it."""

    def conform(self, value: Any) -> Any:
        """Return a value that the domain contains, fresh, and of the type it would have been sampled with."""
        return plain(value)


class Numeric(Domain):
    """A domain of numbers: a monotonic image of its latent interval, on which it is uniform."""

    kind: ClassVar[str]  # its name in TOML
    integer: ClassVar[bool] = False
    log: ClassVar[bool] = False

    @property
    @abstractmethod
    def latent(self) -> tuple[float, float]:
        """The interval on which the domain is uniform: on a linear or log scale, or of quantiles."""

    @abstractmethod
    def from_latent(self, u: float) -> float:
        """Return the value at `u`, snapped to the step and clipped to the ends."""

    @abstractmethod
    def to_latent(self, value: float) -> float:
        """Return where `value` lies on the latent interval."""

    @property
    @abstractmethod
    def lattice(self) -> Lattice | None:
        """The values of a countable domain; None where they cannot be counted."""

    @abstractmethod
    def snap(self, value: float) -> float:
        """Return the domain's value nearest to a number."""

    @abstractmethod
    def holds(self, value: float) -> bool:
        """Say whether a number lies inside and on the step."""

    def sample(self, rng: random.Random) -> float:
        return self.from_latent(rng.uniform(*self.latent))

    def contains(self, value: Any) -> bool:
        number = plain(value)
        if not is_number(number) or (self.integer and not isinstance(number, int)):
            return False
        return self.holds(number)

    def conform(self, value: Any) -> float:
        return self.snap(plain(value))

    def size(self) -> int | None:
        return None if self.lattice is None else self.lattice.count

    def values(self) -> Iterator[float]:
        if self.lattice is None:
            raise ValueError(f"the values of {self!r} cannot be counted")
        return iter(self.lattice)


@dataclass(frozen=True)
class Lattice:
    """Evenly spaced values as they are written in decimals: 0.3, not 0.30000000000000004.

    Args:
        low: The first value.
        high: The last value.
        step: The distance between neighbours; ints throughout, or floats.
    """

    low: float
    high: float
    step: float

    @property
    def count(self) -> int:
        return self._last + 1

    @cached_property
    def _last(self) -> int:
        return round((exact(self.high) - exact(self.low)) / exact(self.step))

    def at(self, index: int) -> float:
        """Return the value at `index` (from 0); the nearest end where there is none."""
        if index <= 0:
            return self.low
        if index >= self._last:
            return self.high
        if isinstance(self.low, int):
            return self.low + index * self.step
        return float(exact(self.low) + index * exact(self.step))

    def nearest(self, value: float) -> float:
        """Return the lattice's value nearest to `value`."""
        return self.at(math.floor((value - self.low) / self.step + 0.5))

    def holds(self, value: float) -> bool:
        """Say whether `value` is on the lattice, but for a float's rounding."""
        tolerance = 0 if isinstance(self.low, int) else 1e-9 * self.step
        return abs(value - self.nearest(value)) <= tolerance

    def __iter__(self) -> Iterator[float]:
        return (self.at(index) for index in range(self.count))
