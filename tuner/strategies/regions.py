"""Regions in which every config failed: a parameter beyond an end, or an option."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

import numpy as np

from tuner.space import Choice, Leaf, Numeric, Space
from tuner.space.values import option_texts
from tuner.strategies.base import Config
from tuner.strategies.compiled import Compiled
from tuner.strategies.gp_cube import Cube, Rows

SOME = 3  # failures that make a region worth a sentence
WHOLE = 1e15  # whole numbers below it are written in full
DIGITS = 12  # significant ones of an edge, at most


@dataclass(frozen=True)
class Region:
    """A part of a space in which every config that was tried failed.

    Args:
        leaf: The parameter.
        place: Its column in a cube.
        sense: 1: from the edge upwards; -1: downwards; 0: at it, an option's place.
        edge: Coordinate of the failure that lies nearest to the others.
        ok: Coordinate of the nearest that did not fail; beyond the range where none did.
        failed: How many failed, of as many.
    """

    leaf: Leaf
    place: int
    sense: int
    edge: float
    ok: float
    failed: int

    def odds(self, coordinates: Rows) -> Rows:
        """Return the probability to fail: (failed + 1) / (failed + 2) in the region, less in the gap before it."""
        most = (self.failed + 1) / (self.failed + 2)  # Laplace's rule of succession
        if self.sense == 0:
            return np.where(coordinates == self.edge, most, 0.0)
        depth = (coordinates - self.ok) / (self.edge - self.ok)
        return most * np.clip(depth, 0.0, 1.0)

    def covers(self, coordinates: Rows) -> Any:
        """Return which of the coordinates lie in it."""
        return coordinates == self.edge if self.sense == 0 else self.sense * (coordinates - self.edge) >= 0

    def sentence(self, cube: Cube, happened: str = "failed") -> str:
        """Return it for a person: "learning_rate >= 0.31: 9 of 9 failed"."""
        domain = self.leaf.domain
        if isinstance(domain, Choice):
            what = f"= {option_texts(domain.options)[cube.option(self.place, int(self.edge))]}"
        else:
            assert isinstance(domain, Numeric)
            what = f"{'>=' if self.sense > 0 else '<='} {self._edge_text(domain)}"
        return f"{self.leaf.name} {what}: {self.failed} of {self.failed} {happened}"

    def _edge_text(self, domain: Numeric) -> str:
        """Return the edge, a whole number in full, others as short as can be, rounded away from the failures."""
        low, high = domain.latent
        edge = domain.from_latent(low + self.edge * (high - low))
        if edge == int(edge) and abs(edge) < WHOLE:
            return f"{edge:.0f}"
        exact = Decimal(f"{edge:.{DIGITS}g}")  # a hair off, after the way through the latent interval
        ok = domain.from_latent(low + self.ok * (high - low)) if 0 <= self.ok <= 1 else -self.sense * math.inf
        for digits in range(3, DIGITS + 1):
            context = Context(prec=digits, rounding=ROUND_FLOOR if self.sense > 0 else ROUND_CEILING)
            rounded = float(context.create_decimal(exact))
            if self.sense * rounded > self.sense * ok:  # what did not fail stays outside
                break
        return f"{rounded:.0f}" if rounded == int(rounded) and abs(rounded) < WHOLE else f"{rounded:.{digits}g}"


def sentences(space: Space, tried: Iterable[tuple[Config, bool]], happened: str = "failed") -> list[str]:
    """Return where in a space configs fail, a sentence each: "learning_rate >= 0.31: 9 of 9 failed".

    Args:
        space: What was searched.
        tried: Configs that are over, and whether each failed by its own fault; those outside of the space are left out.
        happened: What to say of those that failed.
    """
    compiled = Compiled(space)
    cube = Cube(compiled)
    known = [(numbers, failed) for config, failed in tried if (numbers := compiled.encode(config)) is not None]
    if not compiled.leaves or not any(failed for _, failed in known):
        return []
    rows = np.array([cube.row(numbers) for numbers, _ in known])
    found = regions(cube, rows, np.array([failed for _, failed in known]))
    return [region.sentence(cube, happened) for region in found if region.failed >= SOME]


def regions(cube: Cube, rows: Rows, failed: Any) -> list[Region]:
    """Return the regions that explain failures, the one that explains the most first.

    One after another is taken that holds the most failures that none before it does; after the first, two at least.

    Args:
        cube: The space.
        rows: The trials that are over (n, width).
        failed: Which of them failed (n).
    """
    found: list[Region] = []
    left = np.array(failed)
    while left.any():
        held = [(int(left[_members(cube, region, rows)].sum()), region) for region in _all(cube, rows, failed)]
        count, best = max(held, key=lambda pair: (pair[0], pair[1].failed), default=(0, None))
        if best is None or count < min(2, len(found) + 1):
            break
        found.append(best)
        left = left & ~_members(cube, best, rows)
    return found


def _members(cube: Cube, region: Region, rows: Rows) -> Any:
    return region.covers(rows[:, region.place]) & cube.has(rows, region.place)


def _all(cube: Cube, rows: Rows, failed: Any) -> Iterator[Region]:
    """Yield every region in which nothing but failures lies."""
    for place, leaf in enumerate(cube.leaves):
        has = cube.has(rows, place)
        values, bad = rows[has, place], failed[has]
        if isinstance(leaf.domain, Choice):
            for option in np.unique(values[bad]):
                if bad[values == option].all() and (count := int((values == option).sum())) > 1:
                    yield Region(leaf, place, 0, float(option), -1.0, count)
            continue
        for sense in (1, -1):
            ok = max((sense * values)[~bad], default=-2.0)
            beyond = (sense * values)[bad & (sense * values > ok)]
            if len(beyond):
                yield Region(leaf, place, sense, sense * float(beyond.min()), sense * float(ok), len(beyond))
