"""What a sweep has learnt from earlier runs, as its journal holds it, in a person's words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def sentence(entry: Mapping[str, Any]) -> str:
    """Return what one run told: "runs/a: 24 trials told (3 failed), 5 left out: 4 unfinished, 1 ...".

    Args:
        entry: The body of a `warm_start` note: `run`, `told` and `failed` trials, `left_out` by reason, `epochs` where
            its trials trained up to another number of epochs than this sweep's, and
            `seed` where that split the data otherwise.
    """
    told, failed, left_out = entry["told"], entry["failed"], entry["left_out"]
    text = f"{named(entry['run'])}: {told} trial{'s' * (told != 1)} told"
    text += f" ({failed} failed)" if failed else ""
    if left_out:
        text += f", {sum(left_out.values())} left out: "
        text += ", ".join(f"{count} {why}" for why, count in left_out.items())
    return "; ".join([text, *_otherwise(entry)])


def _otherwise(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield in what the run's values were measured otherwise; they are told as they are."""
    if "epochs" in entry:
        theirs, ours = entry["epochs"]
        yield f"it trained for up to {theirs} epochs, this sweep for {ours}"
    if "seed" in entry:
        theirs, ours = entry["seed"]
        yield f"its seed was {theirs}, here it is {ours}, so it validated on other samples of the same data"


def named(run: str) -> str:
    """Return a run's path as a person would write it here: from the working directory, where it lies in it."""
    if "://" in run:
        return run
    return os.path.relpath(run) if Path(run).is_relative_to(Path.cwd()) else run
