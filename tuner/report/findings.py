"""What a report has to go on: frames, space, baseline, final scores, predictions, and what analysis makes of them.

Whatever is missing is a sentence in the place of the value, so that the report can say so.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.analysis.advice import advice
from tuner.analysis.diagnosis import Diagnosis, diagnose
from tuner.analysis.effects import Dependences, Heatmap, one_at_a_time, pairwise_of, partial_dependence_of
from tuner.analysis.importance import Explained, ImportanceResult, explain, importance_of
from tuner.analysis.refine import Change, refine
from tuner.analysis.scores import Target
from tuner.analysis.selection import Corrected, corrected
from tuner.errors import TunerError
from tuner.history import RANKED, Ranked, TrialRecord
from tuner.report.folds import Folds, folds
from tuner.report.labels import Labels, LazyPredictions, fits, has_predictions, labels, predictions
from tuner.results import Best, Results
from tuner.space import Fixed, Space

T = TypeVar("T")

# Stages whose trials are comparable: all of the training split, measured on the validation split.
SEARCHED = ("baseline", "search", "refine")


@dataclass(frozen=True)
class Missing:
    """Why something is not in the report: a sentence without its full stop."""

    why: str


def attempt(what: str, function: Callable[[], T | Missing]) -> T | Missing:
    """Return what a function gives; a report goes without it where it cannot be computed, and says so.

    Args:
        what: What it computes.
        function: Computes it.
    """
    try:
        return function()
    except TunerError as error:
        return Missing(str(error))
    except Exception as error:  # odd data must not cost a person the rest of the report
        return Missing(f"{what} could not be computed ({type(error).__name__}: {' '.join(str(error).split())})")


@dataclass(frozen=True)
class Winner:
    """The config that a person is told to take.

    Args:
        config: It.
        trial: The trial that stands for it: the retrained one, the first of its folds, or the search's best.
        retrained: Whether that trial is the final training.
    """

    config: Mapping[str, Any]
    trial: str
    retrained: bool = False


@dataclass(frozen=True)
class Findings:
    """Everything the sections are written from; each part is computed once, when it is first asked for.

    Args:
        results: The run.
    """

    results: Results

    @functools.cached_property
    def trials(self) -> pd.DataFrame:
        return self.results.trials

    @functools.cached_property
    def searched(self) -> pd.DataFrame:
        """Trials of baseline, search and refinement: without folds and the final training."""
        return self.trials[self.trials["stage"].isin(SEARCHED)].reset_index(drop=True)

    @functools.cached_property
    def epochs(self) -> pd.DataFrame:
        """Epochs of `searched`."""
        epochs = self.results.epochs
        return epochs[epochs["trial"].isin(self.searched["trial"])].reset_index(drop=True)

    @functools.cached_property
    def space(self) -> Space | Missing:
        return attempt("the space", lambda: Space.parse(dict(self.results.sweep.get("space", {}))))

    @functools.cached_property
    def known_space(self) -> Space:
        return Space() if isinstance(self.space, Missing) else self.space

    @functools.cached_property
    def varied(self) -> list[str]:
        """Names of the parameters that the space varies; of a sweep without a space, those that differ."""
        leaves = self.known_space.leaves()
        names = dict.fromkeys(leaf.name for leaf in leaves if not isinstance(leaf.domain, Fixed))
        if names:
            return list(names)
        configs = [record.config for record in self.results.records()]
        union = dict.fromkeys(name for config in configs for name in config)
        return [name for name in union if len({json.dumps(config.get(name)) for config in configs}) > 1]

    @functools.cached_property
    def best(self) -> Best | None:
        try:
            return self.results.best()
        except TunerError:
            return None

    @functools.cached_property
    def winner(self) -> Winner | None:
        """What a study retrained and tested; else what leads over its folds, once they are done; else the best."""
        told = [note["test_scores"] for note in self.results.history.notes if "test_scores" in note]
        proposal = told[-1].get("winner") if told and isinstance(told[-1], Mapping) else None
        for record in self.results.records():
            if record.stage == "final" and record.proposal == proposal:
                return Winner(record.config, record.trial, retrained=True)
        raced = self.folds
        if not isinstance(raced, Missing) and raced.leader is not None and raced.race.verdict != "open":
            return Winner(raced.configs[raced.leader], raced.first[raced.leader])
        return Winner(self.best.config, self.best.trial) if self.best else None

    @property
    def overruled(self) -> bool:
        """Whether the folds have chosen another config than the search."""
        return bool(self.best and self.winner and self.winner.config != self.best.config)

    @functools.cached_property
    def baseline(self) -> Ranked | None:
        """The baseline: that of its own stage, else a trial of the search whose config is [defaults]."""
        results = self.results
        own = [record for record in results.records() if record.stage == "baseline"]
        defaults = results.sweep.get("defaults", {})
        same = [record for record in results.records() if own == [] and self._is_default(record, defaults)]
        return _group([*own, *same], results.metric, results.mode)

    def _is_default(self, record: TrialRecord, defaults: Mapping[str, Any]) -> bool:
        searched = [name for name in record.config if name in self.varied]
        return bool(searched) and all(name in defaults and record.config[name] == defaults[name] for name in searched)

    @functools.cached_property
    def final(self) -> Mapping[str, Any] | Missing:
        """final/metrics.json: what the one opening of the test split gave."""
        path = self.results.folder / "final" / "metrics.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Missing("not tested: the test split is still sealed (`tuner study` opens it, once, at its end)")
        except (OSError, ValueError) as error:
            return Missing(f"final/metrics.json cannot be read ({error})")
        return found if isinstance(found, dict) else Missing("final/metrics.json does not hold a table")

    @functools.cached_property
    def openings(self) -> int:
        """How often the journal says that the test split was opened."""
        return sum("test_opened" in note for note in self.results.history.notes)

    @functools.cached_property
    def labels(self) -> Labels | Missing:
        def told() -> Labels | Missing:
            found = labels(self.results)
            return Missing(found) if isinstance(found, str) else found

        return attempt("the labels", told)

    @functools.cached_property
    def best_predictions(self) -> NDArray[np.float64] | Missing:
        """What the best trial predicted at its best epoch."""
        if self.best is None:
            return Missing("there is no best trial")
        array = predictions(self.results.folder, self.best.trial).get(self.best.epoch)
        if array is None:
            return Missing("the best trial kept no predictions")
        if isinstance(self.labels, Missing):
            return self.labels
        if not fits(array, self.labels):
            return Missing("the best trial's predictions do not fit the validation split's labels")
        return np.asarray(array, dtype=float)

    @functools.cached_property
    def corrected(self) -> Corrected | Missing:
        """The best score with its selection accounted for."""
        return attempt("the correction", self._corrected)

    def _corrected(self) -> Corrected | Missing:
        if self.best is None:
            return Missing("there is no best trial")
        known, records = self.labels, self._candidates()
        if not any(has_predictions(self.results.folder, record.trial) for record in records):
            return Missing("this sweep keeps no predictions")
        if isinstance(known, Missing):
            return known
        metric, mode = self.results.metric, self.results.mode
        names = [record.trial for record in records]
        made = corrected(
            LazyPredictions(self.results.folder, names, known),
            known.y,
            metric,
            mode,
            scores={r.trial: {epoch: row.metrics.get(metric) for epoch, row in r.epochs.items()} for r in records},
            configs={record.trial: record.proposal for record in records},
            cost={record.trial: record.duration_s / max(1, len(record.epochs)) for record in records},
            bootstraps=1000 if sum(len(record.epochs) for record in records) <= 3000 else 200,
            seed=self.seed,
        )
        if math.isfinite(made.score):
            return made
        return Missing(made.note.removeprefix("not corrected: ") or "the predictions give no finite score")

    def _candidates(self) -> list[TrialRecord]:
        """Return the trials that could have been the best."""
        stages = ("search", "refine")
        records = [r for r in self.results.records() if r.stage in stages and r.status in RANKED]
        return [record for record in records if self.results.is_feasible(record)]

    @property
    def seed(self) -> int:
        """The sweep's seed, for every random thing of the analysis."""
        seed = self.results.sweep["sweep"].get("seed", 0)
        return seed if isinstance(seed, int) else 0

    @property
    def bootstraps(self) -> int:
        """How often trials are drawn again for an interval: many give a steady one, and each draw takes longer."""
        return 40 if len(self.searched) <= 300 else 12

    def _explain(self, target: Target) -> Explained:
        results = self.results
        return explain(
            self.searched,
            self.epochs,
            self.known_space,
            results.metric,
            results.mode,
            seed=self.seed,
            target=target,
            bootstraps=self.bootstraps,
        )

    @functools.cached_property
    def explained(self) -> Explained:
        """The forests of the score, which importance and effects share."""
        return self._explain("score")

    @functools.cached_property
    def importances(self) -> list[ImportanceResult] | Missing:
        """What matters for the score, and for the gap between train and validation."""
        space = self.known_space
        if not space:
            return Missing("the sweep has no [space]")
        return attempt(
            "the importance",
            lambda: [importance_of(self.explained, space), importance_of(self._explain("gap"), space, "gap")],
        )

    @functools.cached_property
    def noise(self) -> float | None:
        """The metric's standard deviation over the baseline's seeds; None where there are not two."""
        records = [record for record in self.results.records() if record.stage == "baseline"]
        values = [v for r in records if (v := r.best_value(self.results.metric, self.results.mode)) is not None]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    @functools.cached_property
    def refined(self) -> tuple[Space, tuple[Change, ...]] | Missing:
        """The next space, and what changes."""
        space, results = self.known_space, self.results
        if not space:
            return Missing("the sweep has no [space]")
        head = results.sweep["sweep"]
        return attempt(
            "the next space",
            lambda: refine(
                space,
                self.searched,
                results.metric,
                results.mode,
                noise=self.noise,
                trainable=head.get("trainable"),
                max_epochs=results.max_epochs,
                keep=self.winner.config if self.winner else None,
                seed=self.seed,
            ),
        )

    @functools.cached_property
    def dependences(self) -> Dependences | Missing:
        """The average score along each parameter."""
        if not self.known_space:
            return Missing("the sweep has no [space]")
        return attempt("the effects", lambda: partial_dependence_of(self.explained))

    def pairs(self, names: Sequence[tuple[str, str]]) -> list[Heatmap] | Missing:
        """Return the average score over pairs of parameters, named by their places in the space."""
        return attempt("the effects of pairs", lambda: pairwise_of(self.explained, names))

    @functools.cached_property
    def changes_of_baseline(self) -> pd.DataFrame | Missing:
        """What changing one parameter of the baseline alone did."""
        results = self.results
        config = self.baseline.trial.config if self.baseline else results.sweep.get("defaults", {})
        if not config:
            return Missing("no baseline was run, and the sweep has no [defaults]")
        return attempt(
            "the effects of single changes",
            lambda: one_at_a_time(self.searched, self.epochs, self.known_space, results.metric, results.mode, config),
        )

    @functools.cached_property
    def diagnosis(self) -> Diagnosis | Missing:
        """What the curves and the learning rates show."""
        results = self.results
        classes = None if isinstance(self.labels, Missing) else len(self.labels.classes) or None
        return attempt(
            "the diagnosis",
            lambda: diagnose(self.searched, self.epochs, results.metric, results.mode, classes=classes),
        )

    @functools.cached_property
    def advice(self) -> list[str] | Missing:
        """What to try next, in sentences."""
        diagnosis, results = self.diagnosis, self.results
        if isinstance(diagnosis, Missing):
            return diagnosis
        return attempt(
            "the advice",
            lambda: advice(
                diagnosis,
                self.searched,
                self.known_space,
                results.metric,
                results.mode,
                max_epochs=results.max_epochs,
            ),
        )

    @functools.cached_property
    def folds(self) -> Folds | Missing:
        """The cross-validated configs compared."""
        return attempt(
            "the comparison of folds", lambda: folds(self.results, self.seed) or Missing("no fold has begun")
        )

    @functools.cached_property
    def provenance(self) -> Mapping[str, Any]:
        """provenance.json; empty where it is damaged or gone."""
        try:
            found = json.loads((self.results.folder / "provenance.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _group(records: list[TrialRecord], metric: str, mode: str) -> Ranked | None:
    """Return the mean over some trials of one config; None where none has a value."""
    pairs = [(value, record) for record in records if (value := record.best_value(metric, mode)) is not None]
    pairs = [(value, record) for value, record in pairs if record.status in ("completed", "stopped")]
    if not pairs:
        return None
    return Ranked(math.fsum(value for value, _ in pairs) / len(pairs), pairs[0][1], len(pairs))
