"""What to try next, in sentences with counts; only what the trials bear out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from tuner.analysis.diagnosis import Diagnosis, Kind
from tuner.analysis.features import Axis, axes_of, encode, option_index, values_of
from tuner.analysis.ranges import edge
from tuner.analysis.scores import FINISHED, comparable, plural, sign_of
from tuner.space import Choice, Numeric, Space
from tuner.space.values import show

LEVEL = 0.05
"""Of Fisher's exact test (one-sided), divided by all the cuts and options tried for one finding (Bonferroni)."""
LEAST_TRIALS, LEAST_SHARE = 5, 0.6
"""A sentence about some trials needs at least 5 of them, and 6 in 10 of which it is true."""
CUTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""At which quantiles of the trials' values a range is cut."""

WORDS: dict[Kind, str] = {
    "diverged": "diverges",
    "not_learning": "does not learn",
    "overfitting": "overfits",
    "underfitting": "underfits",
    "unstable": "is unstable",
}


@dataclass(frozen=True)
class _Searched:
    """The parameters, and each trial's value of each; read from the frame once.

    Args:
        numbers: As `_numbers` yields them.
        options: As `_options` yields them.
    """

    numbers: Sequence[tuple[Axis, NDArray[np.float64], list[Any]]]
    options: Sequence[tuple[Axis, NDArray[np.int64]]]


@dataclass(frozen=True)
class _Finding:
    """A sentence and its rank: by urgency, then by how sure it is (a probability, low is sure)."""

    urgency: int
    p: float
    text: str


def advice(
    diagnosis: Diagnosis,
    trials: pd.DataFrame,
    space: Space,
    metric: str,
    mode: str,
    *,
    max_epochs: int | None = None,
    limit: int = 8,
) -> list[str]:
    """Return sentences with counts, the most useful first; an empty list where the trials bear out nothing.

    A parameter is linked to what curves show, or to a cause of failure, by Fisher's exact test at 5 % over all
    places where any could be cut, on at least 5 trials of which 6 in 10 show it.

    Args:
        diagnosis: Of these trials.
        trials: As in results.
        space: The sweep's space.
        metric: The sweep's metric.
        mode: "max" or "min".
        max_epochs: The sweep's; None: nothing is said of it.
        limit: The most sentences.
    """
    trials = comparable(trials)
    if not len(trials):
        return []
    kinds = [diagnosis.curves[t].kind if t in diagnosis.curves else "cannot_tell" for t in trials["trial"]]
    searched = _Searched(list(_numbers(trials, space)), list(_options(trials, space)))
    findings = [
        *_improving(trials, kinds, max_epochs),
        *_edges(trials, searched, metric, mode),
        *_rates(diagnosis),
        *_failures(trials, searched),
        *_linked_kinds(searched, kinds),
    ]
    findings.sort(key=lambda finding: (finding.urgency, finding.p))
    return list(dict.fromkeys(finding.text for finding in findings))[:limit]


def _improving(trials: pd.DataFrame, kinds: Sequence[str], max_epochs: int | None) -> Iterator[_Finding]:
    """Say that the epochs were too few, where most trials that used them all were still improving."""
    if max_epochs is None:
        return
    full = np.asarray((trials["status"] == "completed") & (trials["epochs"] >= max_epochs), dtype=bool)
    hits = sum(kind == "still_improving" for kind, is_full in zip(kinds, full, strict=True) if is_full)
    if full.sum() >= LEAST_TRIALS and hits >= LEAST_SHARE * full.sum():
        who = f"all {hits} full curves are" if hits == full.sum() else f"{hits} of {full.sum()} full curves are"
        text = f"{who} still improving at epoch {max_epochs}; raise sweep.max_epochs"
        yield _Finding(0, 0.0, text)


def _edges(trials: pd.DataFrame, searched: _Searched, metric: str, mode: str) -> Iterator[_Finding]:
    """Say where the best trial sits at an end of a range, and the best quarter lies that way."""
    if f"best.{metric}" not in trials:
        return
    losses = sign_of(mode) * trials[f"best.{metric}"].to_numpy(dtype=float, na_value=np.nan)
    losses = np.where(trials["status"].isin(FINISHED), losses, np.nan)
    for axis, places, values in searched.numbers:
        mine = np.flatnonzero(np.isfinite(losses) & np.isfinite(places))
        if len(mine) < 2 * LEAST_TRIALS:
            continue
        top = mine[np.argsort(losses[mine], kind="stable")][: max(LEAST_TRIALS, len(mine) // 4)]
        if axis.leaf.conditions and losses[top[0]] > np.nanmin(losses):
            continue  # a branch that does not hold the best trial
        side = edge(axis.leaf.domain, values[top[0]]) if isinstance(axis.leaf.domain, Numeric) else None
        outer = places <= 1 / 3 if side == "lower" else places >= 2 / 3
        if side is None or outer[top].mean() < LEAST_SHARE:
            continue
        p = _fisher(outer[top].sum(), len(top), outer[mine].sum(), len(mine))
        if p <= LEVEL:
            ends = axis.leaf.domain.to_table()
            shown = show(next(iter(ends.values())))
            yield _Finding(
                1,
                p,
                f"the best trial sits at the {side} edge of {axis.leaf.label} ({_number(values[top[0]])} of {shown}), "
                f"and {outer[top].sum()} of the best {len(top)} lie that way; widen it",
            )


def _rates(diagnosis: Diagnosis) -> Iterator[_Finding]:
    for group in diagnosis.learning_rates:
        for text in group.limits:
            if "diverges" in text or "too high" in text:
                yield _Finding(2, 0.0, text)
            elif "slow" in text:
                yield _Finding(3, 0.0, text)


def _failures(trials: pd.DataFrame, searched: _Searched) -> Iterator[_Finding]:
    """Say which values go with a cause of failure."""
    causes = values_of(trials, "cause")
    for cause in sorted({c for c in causes if c and str(c).startswith("config.")}):
        has = np.array([c == cause for c in causes])
        for finding in _linked(searched, has, np.ones(len(has), dtype=bool), f"fails with {cause}"):
            yield _Finding(1, finding.p, finding.text)


def _linked_kinds(searched: _Searched, kinds: Sequence[str]) -> Iterator[_Finding]:
    """Say which values go with a class of curves, among the trials whose class is known."""
    known = np.array([kind != "cannot_tell" for kind in kinds])
    for kind, words in WORDS.items():
        has = np.array([found == kind for found in kinds])
        # The learning rates have sentences of their own, an optimizer at a time.
        skip = ("learning_rate",) if kind in ("diverged", "not_learning", "unstable") else ()
        yield from _linked(searched, has, known, words, skip)


def _linked(
    searched: _Searched,
    has: NDArray[np.bool_],
    known: NDArray[np.bool_],
    words: str,
    skip: Sequence[str] = (),
) -> Iterator[_Finding]:
    """Yield the cut, or the option, that goes best with what some trials have, if it is significant; at most two.

    The second is looked for among the trials that the first leaves: what only goes along with it says nothing.
    """
    parts = [part for part in (*_cuts(searched, known), *_chosen(searched)) if part.name not in skip]
    for _ in range(2):
        tested = [(_test(part, known, has, len(parts)), place) for place, part in enumerate(parts)]
        p, place = min(tested, default=(1.0, 0))
        if p > LEVEL:
            return
        yield _Finding(4, p, _told(parts[place], known, has, words))
        known = known & ~parts[place].inside


@dataclass(frozen=True)
class _Part:
    """Trials with some values of one parameter.

    Args:
        name: The parameter's.
        label: Its place.
        inside: Which trials (n,) have such a value.
        owners: Which trials have the parameter at all.
        values: Every trial's value.
        below: Whether they are those below the others; None for an option.
    """

    name: str
    label: str
    inside: NDArray[np.bool_]
    owners: NDArray[np.bool_]
    values: Sequence[Any]
    below: bool | None


def _cuts(searched: _Searched, known: NDArray[np.bool_]) -> Iterator[_Part]:
    for axis, places, values in searched.numbers:
        owners = np.isfinite(places)
        if not (owners & known).any():
            continue
        for cut in sorted({float(cut) for cut in np.quantile(places[owners & known], CUTS)}):
            for below in (True, False):
                inside = owners & ((places < cut) if below else (places >= cut))
                yield _Part(axis.leaf.name, axis.leaf.label, inside, owners, values, below)


def _chosen(searched: _Searched) -> Iterator[_Part]:
    for axis, chosen in searched.options:
        values = [axis.values[index] if index >= 0 else None for index in chosen.tolist()]
        for index in range(len(axis.values)):
            yield _Part(axis.leaf.name, axis.leaf.label, chosen == index, chosen >= 0, values, None)


def _test(part: _Part, known: NDArray[np.bool_], has: NDArray[np.bool_], tests: int) -> float:
    """Return Fisher's p, corrected for the number of tests; 1 where there are too few trials to speak of."""
    mine, side = known & part.owners, known & part.inside
    hits, count = int((side & has).sum()), int(side.sum())
    if count < LEAST_TRIALS or hits < LEAST_SHARE * count:
        return 1.0
    return _fisher(hits, count, int((mine & has).sum()), int(mine.sum())) * tests


def _told(part: _Part, known: NDArray[np.bool_], has: NDArray[np.bool_], words: str) -> str:
    side = known & part.inside
    rest = known & part.owners & ~part.inside
    inside = [part.values[row] for row in np.flatnonzero(side).tolist()]
    if part.below is None:
        return f"{part.label} = {show(inside[0])} {words} in {_counts(side, rest, has)}"
    outside = [part.values[row] for row in np.flatnonzero(rest).tolist()]
    limit = min(outside, default=max(inside)) if part.below else min(inside)
    where = f"below {_number(limit)}" if part.below else f"from {_number(limit)} up"
    text = f"{part.label} {where} {words} in {_counts(side, rest, has)}"
    fine = [part.values[row] for row in np.flatnonzero(rest & ~has).tolist()]
    if len(fine) >= LEAST_TRIALS:
        low, high = np.quantile(fine, (0.1, 0.9))
        if _number(low) != _number(high):
            text += f"; try {_number(low)} to {_number(high)}"
    return text


def _fisher(hits: int, count: int, all_hits: int, all_count: int) -> float:
    """Return the one-sided p of so many hits among `count` of all."""
    rest_hits, rest = all_hits - hits, all_count - count
    table = [[hits, count - hits], [rest_hits, rest - rest_hits]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _counts(side: NDArray[np.bool_], rest: NDArray[np.bool_], has: NDArray[np.bool_]) -> str:
    hits, count = int((side & has).sum()), int(side.sum())
    text = f"{hits} of {count} {plural('trial', count)}"
    return text + (f" (elsewhere in {int((rest & has).sum())} of {int(rest.sum())})" if rest.any() else "")


def _number(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def _numbers(trials: pd.DataFrame, space: Space) -> Iterator[tuple[Axis, NDArray[np.float64], list[Any]]]:
    """Yield each numeric parameter, where trials lie on its scale (NaN where they do not have it), and the values."""
    features = encode(space, trials)
    for number, axis in enumerate(features.axes):
        if axis.is_choice:
            continue
        places = np.full(len(trials), np.nan)
        here = features.active[:, number]
        places[features.rows[here]] = features.matrix[here, axis.column]
        yield axis, places, values_of(trials, f"config.{axis.leaf.name}")


def _options(trials: pd.DataFrame, space: Space) -> Iterator[tuple[Axis, NDArray[np.int64]]]:
    """Yield each choice and the option's index of each trial, -1 where it has none."""
    for axis in axes_of(space):
        domain = axis.leaf.domain
        if isinstance(domain, Choice):
            indices = [option_index(domain, v) for v in values_of(trials, f"config.{axis.leaf.name}")]
            yield axis, np.array([-1 if index is None else index for index in indices], dtype=np.int64)
