"""Stopping rules: pure functions of the history. No Ray, no clock.

RULES is the registry: a rule of one's own is a `Rule` subclass, added under its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tuner.errors import Problem
from tuner.stopping import options as _options
from tuner.stopping.asha import Asha
from tuner.stopping.base import Rule
from tuner.stopping.divergence import Divergence
from tuner.stopping.median import Median
from tuner.stopping.plateau import Plateau
from tuner.stopping.target import Target

if TYPE_CHECKING:
    from tuner.spec import Sweep

__all__ = ["MEANINGS", "RULES", "Asha", "Divergence", "Median", "Plateau", "Rule", "Target", "check", "make_rules"]

RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Asha, Median, Plateau, Divergence, Target)}

MEANINGS = {
    "asha": "asynchronous successive halving: at each rung only the best part goes on",
    "median": "a trial ends that is worse than the median of the others",
    "plateau": "a trial ends that no longer improves",
    "divergence": "a trial ends whose loss explodes",
    "target": "the whole sweep ends once a trial is good enough",
}
"""What each rule does, in a line."""


def make_rules(sweep: Sweep) -> list[Rule]:
    """Return a sweep's stopping rules, in the order of its file; a trial stops at the first that says so."""
    rules = [RULES[name](**sweep.stopping.options.get(name, {})) for name in sweep.stopping.rules]
    return [rule.for_mode(sweep.mode).for_repeats(sweep.search.repeats) for rule in rules]


def check(rules: Iterable[str], options: Mapping[str, Any]) -> list[Problem]:
    """Return every mistake in a [stopping] table.

    Args:
        rules: The names under `rules`.
        options: The option tables, one a rule.
    """
    return _options.check(RULES, list(rules), options)
