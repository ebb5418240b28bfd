"""Distributed hyperparameter tuning for CNNs on Ray Tune.

import tuner
results = tuner.run(tuner.load_sweep("search_spaces/cnn_digits.toml"))
results.trials, results.epochs, results.best()
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.errors import DataError, RunError, ShapeError, StopTrial, SweepError, TunerError
    from tuner.plan import Plan, make_plan
    from tuner.results import Results, load
    from tuner.run import resume, run
    from tuner.space import Choice, Int, LogInt, LogNormal, LogUniform, Normal, Space, Uniform
    from tuner.spec import Sweep, load_sweep
    from tuner.study import study
    from tuner.trainable import Data, Split, Trial

# Where each public name lives. Names are imported when first used, so that reading a run folder
# imports neither pandas nor torch nor ray.
_HOMES = {
    "load_sweep": "spec",
    "Sweep": "spec",
    "Space": "space",
    "Uniform": "space",
    "LogUniform": "space",
    "Int": "space",
    "LogInt": "space",
    "Normal": "space",
    "LogNormal": "space",
    "Choice": "space",
    "make_plan": "plan",
    "Plan": "plan",
    "run": "run",
    "resume": "run",
    "study": "study",
    "load": "results",
    "Results": "results",
    "Trial": "trainable",
    "Data": "trainable",
    "Split": "trainable",
    "StopTrial": "errors",
    "TunerError": "errors",
    "SweepError": "errors",
    "RunError": "errors",
    "DataError": "errors",
    "ShapeError": "errors",
}

__all__ = [*_HOMES]
__version__ = "0.1.0"


class _Package(ModuleType):
    """Keeps `tuner.run` the function: importing the module tuner.run would put the module in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tuner.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
