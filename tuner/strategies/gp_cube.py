"""Many configs at once, as a Gaussian process sees them: rows of coordinates, and their features."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.space import Leaf, Numeric
from tuner.strategies.compiled import Compiled, Latent

Rows = npt.NDArray[np.float64]

INACTIVE = 0.5  # the coordinate of a number that a config does not have
FEW = 64  # numbers with more values than this are taken for continuous while candidates are compared
STEPS = np.array([0.2, 0.05, 0.01])  # of a candidate away from a good config, as a part of a parameter's range


class Cube:
    """A compiled space as rows: a number has a coordinate in [0, 1], a choice the place of its option.

    Args:
        compiled: The space.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._leaves = compiled.leaves
        self._column = {leaf.label: place for place, leaf in enumerate(self._leaves)}
        self._weights = {
            place: np.array(compiled.weights(leaf))
            for place, leaf in enumerate(self._leaves)
            if not isinstance(leaf.domain, Numeric)
        }
        self._conditions = [self._places(leaf, compiled) for leaf in self._leaves]
        self._cuts = {place: cuts for place, leaf in enumerate(self._leaves) if (cuts := _cuts(leaf)) is not None}

    @property
    def width(self) -> int:
        """How many coordinates a row has."""
        return len(self._leaves)

    def _places(self, leaf: Leaf, compiled: Compiled) -> list[tuple[int, int]]:
        """Return a leaf's conditions as (column, place of the option); (0, -1), never true, for options of weight 0."""
        above = {other.label: other for other in self._leaves}
        return [
            (self._column[label], options.index(index))
            if index in (options := compiled.options(above[label]))
            else (0, -1)
            for label, index in leaf.conditions
        ]

    def row(self, numbers: Latent) -> list[float]:
        """Return the coordinates of one config; those that it does not have are INACTIVE or 0."""
        row = []
        for place, leaf in enumerate(self._leaves):
            value = numbers.get(leaf.label)
            if value is None:
                row.append(0.0 if place in self._weights else INACTIVE)
            elif isinstance(leaf.domain, Numeric):
                low, high = leaf.domain.latent
                row.append((value - low) / (high - low))
            else:
                row.append(value)
        return row

    def numbers(self, row: Rows) -> Latent:
        """Return a row as the compiled space has it."""
        numbers: Latent = {}
        for leaf, value in zip(self._leaves, row, strict=True):
            low, high = leaf.domain.latent if isinstance(leaf.domain, Numeric) else (0.0, 1.0)
            numbers[leaf.label] = low + float(value) * (high - low)
        return numbers

    def features(self, rows: Rows) -> Rows:
        """Return what the process sees of rows (n, width): (n, features), each in [0, 1].

        A number is its coordinate, INACTIVE where the config does not have it. A choice is one feature an option (one
        for two of them), all 0 where the config does not have it. These also tell which branch is active, so the
        constant of an inactive number is not mistaken for a value.
        """
        columns = []
        for place in range(self.width):
            active = self._active(rows, place)
            if place not in self._weights:
                columns.append(np.where(active, self._snapped(rows, place), INACTIVE))
                continue
            options = len(self._weights[place])
            columns.extend(
                np.where(active, rows[:, place] == option, 0.0)
                for option in range(options if options > 2 else options - 1)
            )
        return np.column_stack(columns) if columns else np.zeros((len(rows), 1))

    @property
    def leaves(self) -> list[Leaf]:
        """The leaf of each column."""
        return self._leaves

    def has(self, rows: Rows, place: int) -> Any:
        """Return which rows (n, width) have the parameter of a column: those whose choices ask for it."""
        return np.broadcast_to(self._active(rows, place), len(rows))

    def option(self, place: int, value: int) -> int:
        """Return the index of the option that a choice's coordinate stands for."""
        return self._compiled.options(self._leaves[place])[value]

    def _active(self, rows: Rows, place: int) -> Any:
        conditions = self._conditions[place]
        if not conditions:
            return True
        return np.logical_and.reduce([rows[:, column] == option for column, option in conditions])

    def _snapped(self, rows: Rows, place: int) -> Rows:
        if place not in self._cuts:
            return rows[:, place]
        values, edges = self._cuts[place]
        snapped: Rows = values[np.searchsorted(edges, rows[:, place])]
        return snapped

    def stretched(self, unit: Rows) -> Rows:
        """Return points of the unit cube (n, width) as rows: a choice divides the interval by its weights."""
        rows = unit.copy()
        for place, weights in self._weights.items():
            rows[:, place] = np.minimum(np.searchsorted(np.cumsum(weights), unit[:, place], "right"), len(weights) - 1)
        return rows

    def around(self, centres: Rows, count: int, steps: Sequence[float] | Rows, rng: np.random.Generator) -> Rows:
        """Return `count` rows near these: a few coordinates of each changed, by steps of several sizes."""
        rows = centres[np.arange(count) % len(centres)].copy()
        changed = rng.random(rows.shape) < max(1 / self.width, 0.3)
        changed[np.arange(count), rng.integers(self.width, size=count)] = True
        moved = rows + rng.standard_normal(rows.shape) * np.asarray(steps)[rng.integers(len(steps), size=(count, 1))]
        moved = np.clip(np.where(moved > 1, 2 - moved, np.abs(moved)), 0, 1)  # reflected at the ends
        drawn = self.stretched(rng.random(rows.shape))
        for place in self._weights:
            moved[:, place] = drawn[:, place]
            # an option is a jump, so it is tried seldomer than a step
            changed[:, place] &= rng.random(count) < 0.3
        return np.where(changed, moved, rows)


def _cuts(leaf: Leaf) -> tuple[Rows, Rows] | None:
    """Return the coordinates of a number's values, and the ends between them; None where they are many."""
    domain = leaf.domain
    if not isinstance(domain, Numeric) or domain.lattice is None or domain.lattice.count > FEW:
        return None
    low, high = domain.latent
    latent = np.array([domain.to_latent(value) for value in domain.lattice])
    values = (latent - low) / (high - low)
    if domain.log:
        middles = [domain.to_latent((a + b) / 2) for a, b in itertools.pairwise(domain.lattice)]
        return values, (np.array(middles) - low) / (high - low)
    return values, (values[1:] + values[:-1]) / 2
