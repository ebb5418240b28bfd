"""A parameter as an axis: its values as places on a line, and what stands at its ticks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from numpy.typing import NDArray

from tuner import words
from tuner.analysis.figures import style
from tuner.space import Choice, Fixed, Numeric, Space

# More options than this on one axis are no longer read; the rarest become one.
MOST_OPTIONS = 12
OTHER = "(other)"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a sweep's trials.

    Args:
        name: Its name, without "config.".
        places: (trials,) where each trial's value lies on the axis; NaN where it has none.
        options: The names at 0, 1, 2, ...; empty for numbers.
        log: Whether numbers are read on a logarithmic scale.
        whole: Whether all numbers are whole.
    """

    name: str
    places: NDArray[np.float64]
    options: tuple[str, ...] = ()
    log: bool = False
    whole: bool = False

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of its axis, all values inside."""
        if self.options:
            return -0.5, len(self.options) - 0.5
        known = self.places[np.isfinite(self.places)]
        if not len(known):
            return 0.0, 1.0
        low, high = float(known.min()), float(known.max())
        if self.log:
            room = max(0.03 * math.log(high / low), 0.1)
            return low * math.exp(-room), high * math.exp(room)
        return style.finite_limits([low, high]) or (0.0, 1.0)

    def dress(self, axis: Axis, *, ticks: int = 4, width: int = 14) -> None:
        """Give an axis this parameter's scale, limits and ticks."""
        if self.options:
            style.category_axis(axis, self.options, width)
            axis.axes.set(**{f"{'x' if axis is axis.axes.xaxis else 'y'}lim": self.limits})
        else:
            style.number_axis(axis, log=self.log, whole=self.whole, ticks=ticks, limits=self.limits)

    def shares(self) -> NDArray[np.float64]:
        """Return its places as shares of the axis, from 0 to 1."""
        low, high = self.limits
        if self.log:
            return np.asarray(np.log(self.places / low) / math.log(high / low))
        return np.asarray((self.places - low) / (high - low))


def parameters(trials: pd.DataFrame, space: Space | None) -> list[Parameter]:
    """Return the parameters that differ between trials, in the order of the frame.

    Args:
        trials: A trials frame.
        space: The sweep's space, for scales and the order of options; None where it is not known.
    """
    domains: dict[str, Any] = {leaf.name: leaf.domain for leaf in space.leaves()} if space else {}
    columns = [str(column) for column in trials.columns if str(column).startswith("config.")]
    made = [parameter(column.removeprefix("config."), list(trials[column]), domains) for column in columns]
    return [entry for entry in made if _varies(entry)]


def parameter(name: str, values: Sequence[Any], domains: Mapping[str, Any]) -> Parameter:
    """Return one parameter's values as places on an axis.

    Args:
        name: Its name.
        values: A trial's value each, None or NaN where it has none.
        domains: Name -> domain, where known.
    """
    domain = domains.get(name)
    known = [value for value in values if not _is_missing(value)]
    if not isinstance(domain, Choice) and all(_is_number(value) for value in known):
        places = np.array([float(value) if _is_number(value) else math.nan for value in values])
        places[~np.isfinite(places)] = math.nan
        whole = bool(known) and all(float(value).is_integer() for value in known)
        return Parameter(name, places, log=_is_log(domain, places), whole=whole)
    return _category(name, values, domain)


def _category(name: str, values: Sequence[Any], domain: Any) -> Parameter:
    texts = [None if _is_missing(value) else words.value(_plain(value)) for value in values]
    counts = pd.Series([text for text in texts if text is not None], dtype="object").value_counts()
    listed = [words.value(option) for option in domain.options] if isinstance(domain, Choice) else []
    order = [text for text in dict.fromkeys([*listed, *counts.index]) if text in counts.index]
    if len(order) > MOST_OPTIONS:
        order = [*counts.index[: MOST_OPTIONS - 1], OTHER]
    at = {text: place for place, text in enumerate(order)}
    places = [math.nan if text is None else at.get(text, len(order) - 1) for text in texts]
    return Parameter(name, np.array(places, dtype=float), tuple(order))


def _is_log(domain: Any, places: NDArray[np.float64]) -> bool:
    known = places[np.isfinite(places)]
    if not len(known) or known.min() <= 0:
        return False
    if isinstance(domain, Numeric):
        return domain.log
    return bool(known.max() / known.min() > 100)


def _varies(entry: Parameter) -> bool:
    known = entry.places[np.isfinite(entry.places)]
    return len(np.unique(known)) > 1 or (0 < len(known) < len(entry.places) and len(entry.options) > 1)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def is_fixed(domain: Any) -> bool:
    """Say whether a domain has one value."""
    return isinstance(domain, Fixed)
