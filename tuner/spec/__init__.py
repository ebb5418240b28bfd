"""A sweep: one TOML file, or one call, checked once and frozen. Every mistake is reported at once.

tables.py   the tables of a sweep file, each key with its rule in words
sweep.py    Sweep: the resolved whole, and its TOML form
files.py    load_sweep: the file and the overrides of the command line
resolve.py  what is left out is filled in
data.py     which data sets there are, and the options of each
metrics.py  which metrics there are, and which way is better
code.py     where a trainable's function is, without running it
checks.py   what must hold between the tables
text.py     values and tables as TOML
"""

from __future__ import annotations

from tuner.spec.files import load_sweep
from tuner.spec.sweep import Sweep
from tuner.spec.tables import (
    CheckpointSpec,
    DataSpec,
    FailureSpec,
    ResourcesSpec,
    SearchSpec,
    StoppingSpec,
)

__all__ = [
    "CheckpointSpec",
    "DataSpec",
    "FailureSpec",
    "ResourcesSpec",
    "SearchSpec",
    "StoppingSpec",
    "Sweep",
    "load_sweep",
]
