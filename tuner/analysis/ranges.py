"""A numeric domain cut to, or stretched beyond, a part of its range, so that steps, integers and scales stay valid."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

from tuner.analysis.features import relative
from tuner.errors import SweepError
from tuner.space import Numeric, Range
from tuner.space.normals import Normal

Edge = Literal["lower", "upper"]
NEAR = 0.05
"""How near to an end, as a share of the range on its own scale, a value counts as sitting there."""
STRETCH = 0.5
"""By how much of its width, on its own scale, a range is widened at most."""


def edge(domain: Numeric, value: float) -> Edge | None:
    """Return at which end of a range a value sits, or None."""
    if not isinstance(domain, Range):
        return None
    if domain.lattice is not None and domain.lattice.count <= 1 / NEAR:
        return "lower" if value <= domain.low else "upper" if value >= domain.high else None
    place = relative(domain, value)
    return "lower" if place <= NEAR else "upper" if place >= 1 - NEAR else None


def part(domain: Numeric, start: float, end: float, keep: float) -> Numeric:
    """Return the part of a domain from `start` to `end` (shares of its own scale, 0 to 1), ends rounded outwards.

    Args:
        domain: A range, or a normal with or without bounds.
        start: Below `end`.
        end: At most 1.
        keep: A value of the domain that must stay in it.
    """
    first, last = domain.latent
    low, high = (domain.from_latent(first + share * (last - first)) for share in (start, end))
    low, high = min(low, keep), max(high, keep)
    if isinstance(domain, Range):
        old_low: float = domain.low
        old_high: float = domain.high
    else:
        old_low, old_high = domain.from_latent(first), domain.from_latent(last)
    if domain.lattice is None:
        low, high = rounded(low, high, domain.log)
    low = old_low if start <= 0 else max(low, old_low)
    high = old_high if end >= 1 else min(high, old_high)
    if low >= high:
        low, high = _neighbours(domain, low)
    return _with_ends(domain, low, high)


def _neighbours(domain: Numeric, value: float) -> tuple[float, float]:
    """Return the least range around a value: a range of one value is refused."""
    if domain.lattice is None:
        return domain.from_latent(domain.latent[0]), domain.from_latent(domain.latent[1])
    step = domain.lattice.step
    return domain.lattice.nearest(value - step), domain.lattice.nearest(value + step)


def _with_ends(domain: Numeric, low: float, high: float) -> Numeric:
    """Return the domain with other ends; as it is where it would be refused."""
    try:
        if isinstance(domain, Range):
            return dataclasses.replace(domain, low=low, high=high)
        if isinstance(domain, Normal):
            return dataclasses.replace(domain, bounds=(low, high))
    except SweepError:
        pass
    return domain


def stretched(domain: Range, side: Edge, allowed: Callable[[float], bool]) -> Range:
    """Return a range widened at one end as far as is allowed, by half of its width at most; else as it is.

    Args:
        domain: A range.
        side: Which end.
        allowed: Whether a parameter may take a value.
    """
    for end in _candidates(domain, side):
        low, high = (end, domain.high) if side == "lower" else (domain.low, end)
        wider = _with_ends(domain, low, high)
        if isinstance(wider, Range) and wider != domain and allowed(end):
            return wider
    return domain


def _candidates(domain: Range, side: Edge) -> list[float]:
    """Return ends beyond the old one, the farthest first."""
    old = domain.low if side == "lower" else domain.high
    first, last = domain.latent
    way = (first - last) if side == "lower" else (last - first)
    ends = []
    for share in (STRETCH, STRETCH / 2, STRETCH / 4, STRETCH / 8):
        beyond = domain.to_latent(old) + way * share
        value = math.exp(min(beyond, 700.0)) if domain.log else beyond
        ends.append(_on_step(domain, old, value) if domain.lattice is not None else _round_end(domain, value))
    if domain.lattice is not None:
        ends.append(old + (domain.lattice.step if side == "upper" else -domain.lattice.step))
    if side == "lower" and not domain.log and domain.low > 0:  # an amount does not turn negative by itself
        ends = [end for end in ends if end >= 0] or [0 if domain.integer else 0.0]
    return [end for end in ends if (end < old if side == "lower" else end > old)]


def _on_step(domain: Range, old: float, value: float) -> float:
    """Return the value, an whole number of steps away from the old end (at least one)."""
    assert domain.lattice is not None
    step = domain.lattice.step
    steps = max(1, math.floor(abs(value - old) / step))
    end = old + math.copysign(steps, value - old) * step
    return round(end) if domain.integer else float(f"{end:.12g}")


def _round_end(domain: Range, value: float) -> float:
    if domain.log:
        return float(f"{value:.2g}")
    digits = 1 - math.floor(math.log10(domain.high - domain.low))
    return round(value, digits)


def rounded(low: float, high: float, log: bool) -> tuple[float, float]:
    """Return two ends, rounded outwards to what a person would write: two digits (of the width, if linear)."""
    if not low < high:
        return low, high
    if log and low > 0:
        return _outwards(low, _unit(low), math.floor), _outwards(high, _unit(high), math.ceil)
    unit = _unit(high - low)
    return _outwards(low, unit, math.floor), _outwards(high, unit, math.ceil)


def _unit(value: float) -> int:
    """Return the decimals that leave a value two digits."""
    return 1 - math.floor(math.log10(abs(value)))


def _outwards(value: float, decimals: int, direction: Callable[[float], int]) -> float:
    nearest = float(round(value, decimals))
    if abs(nearest - value) <= 1e-9 * abs(value):
        return nearest
    scale = 10.0**decimals
    return float(round(direction(value * scale) / scale, max(decimals, 0)))
