"""Configs as numbers: each domain on its own scale from 0 to 1, choices one-hot, conditional parts in their branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.space import Choice, Fixed, Leaf, Numeric, Space
from tuner.space.values import plain

Floats = NDArray[np.float64]
CELLS = 32
"""Into how many cells of equal probability a range is cut."""


@dataclass(frozen=True)
class Axis:
    """One parameter that varies.

    Args:
        leaf: Its place in the space.
        column: Its first column in a matrix of features.
        width: How many columns it has: one for a number, one an option for a choice.
        values: The value of each cell (K,), in order.
        latent: Where each cell lies (K,), from 0 to 1; of a choice, the option's index.
        weights: The probability of each cell (K,).
        inactive: The column's value where a condition leaves the parameter out.
    """

    leaf: Leaf
    column: int
    width: int
    values: tuple[Any, ...]
    latent: Floats
    weights: Floats
    inactive: float

    @property
    def is_choice(self) -> bool:
        return isinstance(self.leaf.domain, Choice)

    def encoded(self) -> Floats:
        """Return the columns of each cell (K, width)."""
        return np.eye(self.width) if self.is_choice else self.latent[:, None]


@dataclass(frozen=True)
class Scenario:
    """One way in which the branching choices can fall.

    Args:
        weight: Its probability.
        chosen: Axis number of a branching choice -> index of its option.
        active: Which axes (P,) exist with it.
    """

    weight: float
    chosen: Mapping[int, int]
    active: NDArray[np.bool_]


@dataclass(frozen=True)
class Features:
    """The configs of trials as a matrix.

    Args:
        axes: The parameters that vary.
        scenarios: The branches of the space; one where nothing is conditional.
        matrix: (n, columns).
        active: (n, axes): which parameters each config has.
        rows: Which of the given trials (positions) the n rows are; the others are outside the space.
    """

    axes: tuple[Axis, ...]
    scenarios: tuple[Scenario, ...]
    matrix: Floats
    active: NDArray[np.bool_]
    rows: NDArray[np.int64]


def encode(space: Space, trials: pd.DataFrame) -> Features:
    """Return the configs of a trials frame as features; numbers beyond a range's ends count as its ends."""
    axes = axes_of(space)
    width = sum(axis.width for axis in axes)
    matrix = np.zeros((len(trials), width))
    active = np.zeros((len(trials), len(axes)), dtype=bool)
    wrong = np.zeros(len(trials), dtype=bool)
    chosen: dict[str, NDArray[np.int64]] = {}
    for number, axis in enumerate(axes):
        active[:, number] = _holds(axis.leaf, chosen, len(trials))
        places = _places(axis, trials)
        missing = active[:, number] & np.isnan(places)
        wrong |= missing
        here = active[:, number] & ~missing
        if axis.is_choice:
            index = np.where(here, places, -1).astype(np.int64)
            chosen[axis.leaf.label] = index
            rows = np.flatnonzero(here)
            matrix[rows, axis.column + index[rows]] = 1.0
        else:
            matrix[:, axis.column] = np.where(here, places, axis.inactive)
    rows = np.flatnonzero(~wrong)
    return Features(axes, scenarios_of(axes), matrix[rows], active[rows], rows)


def configs(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each trial's config with plain values, without what its conditions leave out."""
    names = [str(name) for name in trials.columns if str(name).startswith("config.")]
    columns = {name.removeprefix("config."): values_of(trials, name) for name in names}
    return [
        {name: values[row] for name, values in columns.items() if values[row] is not None} for row in range(len(trials))
    ]


def values_of(trials: pd.DataFrame, column: str) -> list[Any]:
    """Return a column's plain values, None where one is missing; all None without the column."""
    if column not in trials:
        return [None] * len(trials)
    return [None if is_missing(value) else plain(value) for value in trials[column].astype(object)]


def is_missing(value: Any) -> bool:
    """Say whether a frame's value stands for none."""
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def option_index(domain: Choice, value: Any) -> int | None:
    """Return which option a frame's value is: a column of floats has 1.0 where 1 was written."""
    index = domain.index(value)
    if index is not None or isinstance(value, bool | str) or value is None:
        return index
    alike = [place for place, option in enumerate(domain.options) if type(option) is not bool and option == value]
    return alike[0] if alike else None


def axes_of(space: Space) -> tuple[Axis, ...]:
    """Return the parameters of a space that vary, conditional ones after the choice that they depend on."""
    axes: list[Axis] = []
    column = 0
    for leaf in space.leaves():
        if isinstance(leaf.domain, Fixed):
            continue
        axis = _choice_axis(leaf, column) if isinstance(leaf.domain, Choice) else _numeric_axis(leaf, column)
        axes.append(axis)
        column += axis.width
    return tuple(axes)


def _choice_axis(leaf: Leaf, column: int) -> Axis:
    assert isinstance(leaf.domain, Choice)
    options = leaf.domain.options
    weights = np.asarray(leaf.domain.weights or [1.0] * len(options), dtype=float)
    return Axis(
        leaf,
        column,
        len(options),
        tuple(options),
        np.arange(len(options), dtype=float),
        weights / weights.sum(),
        0.0,
    )


def _numeric_axis(leaf: Leaf, column: int) -> Axis:
    domain = leaf.domain
    assert isinstance(domain, Numeric)
    low, high = domain.latent
    fine = (np.arange(CELLS * 16) + 0.5) / (CELLS * 16)
    size = domain.size()
    if size is not None and size <= CELLS:
        drawn = [domain.from_latent(low + u * (high - low)) for u in fine]
        values = sorted(set(drawn))
        weights = np.array([drawn.count(value) for value in values], dtype=float)
        latent = np.array([relative(domain, value) for value in values])
    else:
        latent = (np.arange(CELLS) + 0.5) / CELLS
        values = [domain.from_latent(low + u * (high - low)) for u in latent]
        weights = np.ones(CELLS)
    return Axis(leaf, column, 1, tuple(values), latent, weights / weights.sum(), 0.5)


def relative(domain: Numeric, value: float) -> float:
    """Return where a value lies on a domain's own scale, from 0 to 1; clipped to the ends."""
    low, high = domain.latent
    if domain.log and value <= 0:
        return 0.0
    return min(max((domain.to_latent(value) - low) / (high - low), 0.0), 1.0)


def scenarios_of(axes: tuple[Axis, ...]) -> tuple[Scenario, ...]:
    """Return every way in which the choices with branches can fall, with its probability."""
    numbers = {axis.leaf.label: number for number, axis in enumerate(axes)}
    branching = {numbers[label] for axis in axes for label, _ in axis.leaf.conditions}
    found: list[tuple[float, dict[int, int]]] = [(1.0, {})]
    for number in sorted(branching):
        axis = axes[number]
        found = [
            (weight * share, {**chosen, number: option}) if exists else (weight, chosen)
            for weight, chosen in found
            for exists in [_exists(axis.leaf, chosen, numbers)]
            for option, share in (enumerate(axis.weights) if exists else [(0, 1.0)])
        ]
    return tuple(
        Scenario(weight, chosen, np.array([_exists(axis.leaf, chosen, numbers) for axis in axes], dtype=bool))
        for weight, chosen in found
        if weight > 0
    )


def _exists(leaf: Leaf, chosen: Mapping[int, int], numbers: Mapping[str, int]) -> bool:
    return all(chosen.get(numbers[label]) == option for label, option in leaf.conditions)


def _holds(leaf: Leaf, chosen: Mapping[str, NDArray[np.int64]], count: int) -> NDArray[np.bool_]:
    holds = np.ones(count, dtype=bool)
    for label, option in leaf.conditions:
        holds &= chosen[label] == option
    return holds


def _places(axis: Axis, trials: pd.DataFrame) -> Floats:
    """Return where each trial's value lies: 0 to 1, or the option's index; NaN where it is missing or unknown."""
    domain = axis.leaf.domain
    values = values_of(trials, f"config.{axis.leaf.name}")
    if isinstance(domain, Choice):
        indices = [option_index(domain, value) for value in values]
        return np.array([np.nan if index is None else float(index) for index in indices])
    assert isinstance(domain, Numeric)
    return np.array([relative(domain, value) if _is_number(value) else np.nan for value in values])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
