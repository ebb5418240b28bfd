"""The options that strategies have: the tables [search.NAME] of a sweep file, and their mistakes as Problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from tuner.errors import Problem, nearest
from tuner.options import Options, mistakes


class HyperoptOptions(Options):
    """[search.hyperopt]; the defaults are hyperopt's own.

    Args:
        gamma: How many trials count as good: gamma * sqrt(trials), rounded up, 25 at most; above 0, at most 25.
        candidates: Draws of the good density of which the best is proposed, >= 1.
        prior_weight: Weight of the space's own distribution beside the trials', above 0.
    """

    gamma: float = Field(default=0.25, gt=0.0, le=25.0, allow_inf_nan=False)
    candidates: int = Field(default=24, ge=1)
    prior_weight: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)


class AnnealOptions(Options):
    """[search.anneal]; the defaults are hyperopt's own.

    Args:
        avg_best_idx: Mean of the geometric draw of the trial to start from, by rank; 1 is always the best; >= 1.
        shrink_coef: How fast the neighbourhood shrinks: 1 / (1 + shrink_coef * trials); >= 0.
    """

    avg_best_idx: float = Field(default=2.0, ge=1.0, allow_inf_nan=False)
    shrink_coef: float = Field(default=0.1, ge=0.0, allow_inf_nan=False)


class GaussianProcessOptions(Options):
    """[search.gp].

    Args:
        candidates: Configs of which the one with the largest expected improvement is proposed, >= 16.
        max_trials: The model is fitted to so many trials at most, the best and the newest, >= 20.
    """

    candidates: int = Field(default=512, ge=16)
    max_trials: int = Field(default=200, ge=20)


SAMPLERS = ("TPESampler", "GPSampler", "CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "QMCSampler", "RandomSampler")
INSTEAD = {
    "GridSampler": 'strategy = "grid" does the same',
    "BruteForceSampler": 'strategy = "grid" does the same',
    "PartialFixedSampler": "what is fixed belongs under [defaults]",
}
"""Samplers of optuna that need more than a name, and what does without them."""


class OptunaOptions(Options):
    """[search.optuna].

    Args:
        sampler: A class of optuna.samplers, or "module:Class" of another package's or your own.
        options: Its own arguments, such as { n_startup_trials = 5 }; its seed is the sweep's.
    """

    sampler: str = "TPESampler"
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("sampler")
    @classmethod
    def _known(cls, sampler: str) -> str:
        if sampler in SAMPLERS or re.fullmatch(r"[A-Za-z_][\w.]*:\w+", sampler):
            return sampler
        instead = f" ({INSTEAD[sampler]})" if sampler in INSTEAD else ""
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, or a module:Class{instead}")


OPTIONS: dict[str, type[Options]] = {
    "hyperopt": HyperoptOptions,
    "anneal": AnnealOptions,
    "gp": GaussianProcessOptions,
    "optuna": OptunaOptions,
}
"""The options of each strategy that has any; a strategy of one's own may add its model."""


def check(names: tuple[str, ...], strategy: str, tables: Mapping[str, Any]) -> list[Problem]:
    """Return every mistake in the tables inside [search].

    Args:
        names: The strategies that there are.
        strategy: The one that is asked for.
        tables: name -> table, as written.
    """
    return [problem for name, table in tables.items() for problem in _check_table(names, strategy, name, table)]


def _check_table(names: tuple[str, ...], strategy: str, name: str, table: Any) -> list[Problem]:
    key = f"search.{name}"
    if name not in names:
        return [Problem(key, "there is no such table", remedy=nearest(name, [n for n in names if n in OPTIONS]))]
    if not isinstance(table, Mapping):
        return [Problem(key, "a table of options is needed", repr(table), f"Write it as [{key}].")]
    if name != strategy:
        remedy = f'Set strategy = "{name}", or remove the table.'
        return [Problem(key, "options of another strategy", f"strategy={strategy}", remedy)]
    return mistakes(OPTIONS.get(name, Options), key, table)


def filled(strategy: str, table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {strategy: its options, each with its value}; {} for a strategy that has none.

    Args:
        strategy: The strategy's name.
        table: A table without mistakes.
    """
    values = OPTIONS.get(strategy, Options)(**table).model_dump(mode="json", exclude_none=True)
    return {strategy: values} if values else {}
