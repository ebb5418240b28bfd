"""The rules that the arguments of a domain must keep, as problems whose keys are the arguments' names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from tuner.errors import Problem
from tuner.space.values import PLAIN_RULE, exact, freeze, is_number, is_plain, show, thaw

LARGEST_INT = 2**51  # so that floats tell the integers of any range apart


def range_problems(low: Any, high: Any, step: Any, points: Any, *, log: bool, integer: bool) -> list[Problem]:
    """Return every mistake in the arguments of a range."""
    ends = [p for name, end in (("low", low), ("high", high)) for p in _end_problems(name, end, integer)]
    if not ends:
        ends = _order_problems(low, high) + (_log_problems(low, integer) if log else [])
    steps = _step_problems(step, integer)
    if step is not None and not ends and not steps:
        steps = _division_problems(low, high, step)
    return ends + steps + _points_problems(points)


def number_problems(name: str, value: Any) -> list[Problem]:
    """Return the mistake of a value that is no finite number; its key is "" (the whole domain's)."""
    if not is_number(value):
        remedy = "Write it without quotes." if isinstance(value, str) and _reads_as_number(value) else ""
        return [Problem("", f"{name} must be a number", f"{name}={show(value)}", remedy)]
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an int beyond the largest float
        finite = False
    return [] if finite else [Problem("", f"{name} must be finite", f"{name}={value}")]


def positive_step_problems(step: Any) -> list[Problem]:
    """Return the mistake of a step that is no number above 0."""
    if step is None:
        return []
    problems = number_problems("step", step)
    if problems:
        return [Problem("step", p.rule, p.got, p.remedy) for p in problems]
    if step <= 0:
        return [Problem("step", "step > 0 must hold", f"step={step}", "Leave it out for a continuous range.")]
    return []


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _end_problems(name: str, end: Any, integer: bool) -> list[Problem]:
    problems = number_problems(name, end)
    if problems or not integer:
        return problems
    if isinstance(end, float):
        remedy = f"Write {int(end)}." if end.is_integer() else "Use uniform or loguniform for fractions."
        return [Problem("", f"{name} must be an integer", f"{name}={end}", remedy)]
    if abs(end) > LARGEST_INT:
        rule = f"{name} must lie between -{LARGEST_INT} and {LARGEST_INT}"
        return [Problem("", rule, f"{name}={end}")]
    return []


def _order_problems(low: float, high: float) -> list[Problem]:
    if float(low) < float(high):
        if math.isfinite(float(high) - float(low)):
            return []
        return [Problem("", "high - low must be finite", f"low={low}, high={high}")]
    got = f"low={low}, high={high}"
    remedy = "Swap the two numbers." if low > high else f"Write the bare value {low} to keep it fixed."
    return [Problem("", "low < high must hold", got, remedy)]


def _log_problems(low: float, integer: bool) -> list[Problem]:
    if low > 0:
        return []
    remedy = "Start at 1, or use int." if integer else "Start at a small number such as 1e-6, or use uniform."
    return [Problem("", "low > 0 must hold on a log scale", f"low={low}", remedy)]


def _step_problems(step: Any, integer: bool) -> list[Problem]:
    problems = positive_step_problems(step)
    if not problems and integer and isinstance(step, float):
        remedy = f"Write {int(step)}." if step.is_integer() else ""
        return [Problem("step", "the step of an integer range must be an integer", f"step={step}", remedy)]
    return problems


def _division_problems(low: float, high: float, step: float) -> list[Problem]:
    steps: Fraction = (exact(high) - exact(low)) / exact(step)
    whole = round(steps)
    # Relative, for a step such as 0.3333333333333333; but never so wide that anything passes.
    if whole >= 1 and abs(steps - whole) <= min(Fraction(whole, 10**9), Fraction(1, 1000)):
        return []
    reached = exact(low) + math.floor(steps) * exact(step)
    top = int(reached) if isinstance(low, int) and isinstance(step, int) else float(reached)
    remedy = f"Write high = {top}, or another step." if steps >= 1 else "Use a smaller step."
    return [Problem("step", "step must divide high - low", f"low={low}, high={high}, step={step}", remedy)]


def _points_problems(points: Any) -> list[Problem]:
    if points is None or (type(points) is int and points >= 2):
        return []
    remedy = "Both ends are included, so 2 is the least."
    return [Problem("points", "points must be an integer of 2 or more", f"points={show(points)}", remedy)]


def normal_problems(mu: Any, sigma: Any, step: Any, bounds: Any, *, log: bool) -> list[Problem]:
    """Return every mistake in the arguments of a normal, but for bounds that leave nothing to draw."""
    problems = number_problems("mu", mu) + number_problems("sigma", sigma)
    if not number_problems("sigma", sigma) and sigma <= 0:
        problems.append(Problem("", "sigma > 0 must hold", f"sigma={sigma}"))
    return problems + positive_step_problems(step) + ([] if bounds is None else _bounds_problems(bounds, log))


def _bounds_problems(bounds: Any, log: bool) -> list[Problem]:
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        return [Problem("bounds", "bounds must be [low, high]", f"bounds={show(bounds)}")]
    problems = number_problems("low", bounds[0]) + number_problems("high", bounds[1])
    if not problems:
        problems = _order_problems(*bounds) + (_log_problems(bounds[0], False) if log else [])
    return [Problem("bounds", p.rule, p.got, p.remedy) for p in problems]


def value_problems(value: Any, key: str = "") -> list[Problem]:
    """Return the mistake of a value that a config cannot hold."""
    if is_plain(value):
        return []
    return [Problem(key, PLAIN_RULE, show(value), _value_remedy(value))]


def _value_remedy(value: Any) -> str:
    if value is None:
        return 'TOML has no null: write a word such as "none".'
    if type(value).__module__.startswith(("tuner.space", "ray.tune")):
        return "A domain stands alone behind its name, or under `when` of a choice."
    if isinstance(value, Mapping):
        return "A config is flat: put the parts of an option under `when`."
    if callable(value):
        return "Write its name, and look it up in the trainable."
    if isinstance(value, list):
        return "A list may hold no tables, domains or objects."
    return ""


def choice_problems(options: Any, weights: Any) -> list[Problem]:
    """Return every mistake in a choice's options and weights (both plain already)."""
    if not isinstance(options, list):
        return [Problem("", "a choice must be a list of options", show(options))]
    if not options:
        return [Problem("", "a choice needs at least one option", "an empty list")]
    problems = [p for option in options for p in value_problems(option)]
    if not problems:
        problems = [
            Problem("", "each option may stand once", show(option), "To make it more likely, use weights.")
            for option in repeated(options)
        ]
    return problems + ([] if weights is None else _weight_problems(weights, len(options)))


def repeated(options: Sequence[Any]) -> list[Any]:
    """Return the options that stand more than once; 1, 1.0 and true are three different ones."""
    counts = Counter(freeze(option) for option in options)
    return [thaw(text) for text, count in counts.items() if count > 1]


def _weight_problems(weights: Any, options: int) -> list[Problem]:
    if not isinstance(weights, list):
        return [Problem("weights", "weights must be a list of numbers", show(weights))]
    problems = [
        Problem("weights", "a weight must be a finite number of 0 or more", show(weight))
        for weight in weights
        if number_problems("weight", weight) or weight < 0
    ]
    if len(weights) != options:
        got = f"{len(weights)} weights for {options} options"
        problems.append(Problem("weights", "there must be one weight an option", got))
    elif not problems and not 0 < sum(weights) < math.inf:
        problems.append(Problem("weights", "the sum of weights must be finite and above 0", show(weights)))
    return problems
