"""What earlier runs teach, as the journal holds it, as observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.strategies.base import Observation


def earlier(learnt: Sequence[Mapping[str, Any]]) -> tuple[Observation, ...]:
    """Return one observation for each config that earlier runs tell of, numbered up to 0.

    Args:
        learnt: One entry a run, as in the journal's `warm_start` notes.
    """
    told = [seen for entry in learnt for seen in entry["observations"]]
    return tuple(
        Observation(
            index,
            seen["config"],
            seen["state"],
            seen["loss"],
            seen["by"],
            earlier=True,
            values=tuple(seen.get("values", ())),
        )
        for index, seen in enumerate(told, start=1 - len(told))
    )
