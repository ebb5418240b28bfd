"""The cross-validated configs of a study: the race that chose between them, replayed from the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner.analysis.comparison import FOLDS, Race, race, schedule
from tuner.history import FINISHED, RANKED
from tuner.results import Results


@dataclass(frozen=True)
class Folds:
    """Where the race between the cross-validated configs stands.

    Args:
        race: Its configs are named by their numbers.
        configs: Name -> config.
        first: Name -> the first trial of its folds.
        leader: The best mean of the configs that are left, the earlier of equals; None before the first look.
    """

    race: Race
    configs: Mapping[str, Mapping[str, Any]]
    first: Mapping[str, str]
    leader: str | None

    @property
    def means(self) -> Mapping[str, float]:
        """Config -> mean over the blocks of the newest look."""
        return self.race.last.means if self.race.last else {}


def folds(results: Results, seed: int) -> Folds | None:
    """Return how the configs of a study compare over its folds; None where no fold has begun.

    It is the study's own race, with its looks and its level: whoever was dropped early was compared on fewer blocks.

    Args:
        results: The run.
        seed: Of the draws for the probability of being best.
    """
    records = [record for record in results.records() if record.stage == "cross_validate"]
    if not records:
        return None
    noted = [note["cross_validate"]["configs"] for note in results.history.notes if "cross_validate" in note]
    configs: dict[str, Any] = dict(noted[0]) if noted else {str(record.proposal): record.config for record in records}
    blocks: dict[str, dict[tuple[int, int], float | None]] = {name: {} for name in configs}
    first: dict[str, str] = {}
    for record in records:
        name = str(record.proposal)
        first.setdefault(name, record.trial)
        if record.status in FINISHED and record.fold is not None and name in blocks:
            value = record.best_value(results.metric, results.mode) if record.status in RANKED else None
            blocks[name][record.repeat - 1, record.fold] = value
    study = results.sweep.get("study", {})
    count = results.sweep.get("data", {}).get("folds") or FOLDS
    looks = schedule(study.get("cv_seeds", 1), count)
    made = race(blocks, looks, results.mode, ratio=1 / (count - 1), level=study.get("level", 0.05), seed=seed)
    sign = 1 if results.mode == "max" else -1
    means = {name: mean for name, mean in made.last.means.items() if name in made.alive} if made.last else {}
    leader = max(means, key=lambda name: sign * means[name]) if means else None
    return Folds(made, configs, first, leader)
