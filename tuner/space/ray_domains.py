"""ray.tune domains in a Python space, known by their module's name: nothing here imports ray."""

from __future__ import annotations

import math
from typing import Any

from tuner.errors import Problem, SweepError
from tuner.space.checks import number_problems
from tuner.space.choice import Choice
from tuner.space.domain import Domain
from tuner.space.normals import Normal
from tuner.space.ranges import Int, LogInt, LogUniform, Uniform
from tuner.space.values import exact, plain


def is_ray(value: Any) -> bool:
    """Say whether `value` is one of ray.tune's objects."""
    return type(value).__module__.startswith("ray.tune")


def from_ray(value: Any) -> Domain:
    """Return the domain with the same values as a ray.tune domain, its ends included.

    Ray leaves the high end of an integer range out, unless it has a step above 1; its steps count from 0.

    Raises:
        SweepError: For what cannot be written in a sweep, such as tune.sample_from, and for a wrong range.
    """
    kind = type(value).__name__
    if kind == "Categorical":
        return Choice(value.categories)
    if kind not in ("Float", "Integer"):
        rule = "a space must be made of values that can be written down"
        remedy = "Use a domain or a choice, and compute in the trainable what depends on it."
        raise SweepError("", [Problem("", rule, f"ray.tune's {kind}, a computation", remedy)])
    sampler = value.get_sampler()
    step = plain(getattr(sampler, "q", None))
    inner = sampler if step is None else sampler.sampler
    scale = type(inner).__name__.strip("_")
    if scale == "Normal":
        return Normal(inner.mean, inner.sd, step=step)
    low, high = plain(value.lower), plain(value.upper)
    if kind == "Float":
        low, high = _on_steps(low, high, step)
        return (LogUniform if scale == "LogUniform" else Uniform)(low, high, step=step)
    if step in (None, 1):
        high, step = high - 1, None
    low, high = _on_steps(low, high, step)
    return (LogInt if scale == "LogUniform" else Int)(low, high, step=step)


def _on_steps(low: Any, high: Any, step: Any) -> tuple[Any, Any]:
    """Return the outermost multiples of the step within the ends; the ends themselves where there is none."""
    if any(number_problems("", number) for number in (low, high, step)) or step <= 0:
        return low, high
    count = exact(step)
    ends = math.ceil(exact(low) / count) * count, math.floor(exact(high) / count) * count
    kind = int if isinstance(low, int) and isinstance(step, int) else float
    return kind(ends[0]), kind(ends[1])
