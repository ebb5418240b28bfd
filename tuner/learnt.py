"""What a sweep has learnt from earlier runs, as its journal holds it, in a person's words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sentence(entry: Mapping[str, Any]) -> str:
    """Return what one run told: "runs/a: 24 trials told (3 failed), 5 left out: 4 unfinished, 1 ...".

    Args:
        entry: The body of a `warm_start` note: `run`, `told` and `failed` trials, `left_out` by reason, `epochs` where
            its trials trained up to another number of epochs than this sweep's.
    """
    told, failed, left_out = entry["told"], entry["failed"], entry["left_out"]
    text = f"{named(entry['run'])}: {told} trial{'s' * (told != 1)} told"
    text += f" ({failed} failed)" if failed else ""
    if left_out:
        text += f", {sum(left_out.values())} left out: "
        text += ", ".join(f"{count} {why}" for why, count in left_out.items())
    if entry.get("epochs"):
        theirs, ours = entry["epochs"]
        text += f"; it trained for up to {theirs} epochs, this sweep for {ours}, and its values are told as they are"
    return text


def named(run: str) -> str:
    """Return a run's path as a person would write it here: from the working directory, where it lies in it."""
    if "://" in run:
        return run
    return os.path.relpath(run) if Path(run).is_relative_to(Path.cwd()) else run
