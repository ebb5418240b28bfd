"""Several objectives: which points nothing dominates, and one number in place of several. Pure.

A point is a tuple of finite numbers, each of them minimised.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

Point = tuple[float, ...]
# Knowles (2006), "ParEGO": how much the weighted sum counts beside the largest weighted term.
_RHO = 0.05
_MOST = sys.float_info.max


def front(points: Sequence[Point]) -> list[int]:
    """Return the places of the points that no other one dominates; equal points stay all.

    A point dominates another that it is nowhere above and somewhere below.
    """
    kept: list[int] = []
    # In this order a point can only be dominated by one before it.
    for place in sorted(range(len(points)), key=lambda place: points[place]):
        if not any(_dominates(points[other], points[place]) for other in kept):
            kept.append(place)
    return sorted(kept)


def _dominates(one: Point, other: Point) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def scalarised(points: Sequence[Point], seed: int) -> list[float]:
    """Return one number a point, to be minimised: the augmented Chebyshev form with random weights.

    Each objective is scaled to 0 to 1 over the points, and f = max(w_j x_j) + 0.05 sum(w_j x_j), with weights w drawn
    evenly from those that add up to 1 (Knowles 2006). Another seed asks for another part of the front.

    Args:
        points: All of one length.
        seed: Of the weights.
    """
    if not points:
        return []
    # Halves of finite values: no span overflows, and what is scaled stays the same.
    points = [tuple(max(-_MOST, min(_MOST, value)) / 2 for value in point) for point in points]
    spans = [(min(values), max(values)) for values in zip(*points, strict=True)]
    draw = random.Random(seed)
    shares = [draw.expovariate(1.0) for _ in spans]
    weights = [share / sum(shares) for share in shares]
    made = []
    for point in points:
        terms = [
            weight * ((value - low) / (high - low) if high > low else 0.0)
            for value, weight, (low, high) in zip(point, weights, spans, strict=True)
        ]
        made.append(max(terms) + _RHO * sum(terms))
    return made
