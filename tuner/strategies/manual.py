"""The configs of search.points, in their order, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tuner.space import Space
from tuner.strategies.base import Config, Observation, PointsFirst, Proposal, count_earlier


class Manual(PointsFirst):
    """The configs of search.points in the order of the file; one that stands there twice comes once.

    Args:
        space: What the points were checked against; may be empty.
        seed: The sweep's seed; nothing here is random.
        trials: The most configs to propose.
        points: The configs.
    """

    name = "manual"

    def __init__(self, space: Space, seed: int, trials: int, points: Iterable[Config] = ()) -> None:
        written = list(points)
        super().__init__(space, seed, written)
        self.total = min(len(self.points), trials)
        repeated, beyond = len(written) - len(self.points), len(self.points) - self.total
        notes = [f"{repeated} of {len(written)} points stand there before, and come once"] if repeated else []
        if beyond > 0:
            notes.append(f"{len(self.points)} points, limit {trials}: the last {beyond} left out")
        self.note = "; ".join(notes)
        self._trials = trials

    def ask(self, history: Sequence[Observation]) -> Proposal | None:
        return super().ask(history) if len(history) - count_earlier(history) < self._trials else None

    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        return None
