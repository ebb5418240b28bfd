"""The words of the command line: those of tuner/words.py, which the report uses too."""

from __future__ import annotations

from tuner.words import (
    NOTHING,
    STATES,
    STYLES,
    age,
    best_of,
    config_line,
    count,
    cut,
    duration,
    names,
    number,
    rate,
    states,
    value,
)

__all__ = [
    "NOTHING",
    "STATES",
    "STYLES",
    "age",
    "best_of",
    "config_line",
    "count",
    "cut",
    "duration",
    "names",
    "number",
    "rate",
    "states",
    "value",
]
