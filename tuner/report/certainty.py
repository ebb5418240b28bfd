"""How sure the answer is: corrected score, ties, cross-validation, noise, and what the best model gets wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tuner import words
from tuner.analysis import figures
from tuner.report.blocks import Block, Picture, Points, Section, Table, Text, column, numbers
from tuner.report.findings import Findings, Missing
from tuner.report.folds import Folds
from tuner.report.labels import Labels


def certainty(found: Findings) -> Section:
    """Return what the answer's numbers rest on."""
    return Section("certainty", "How sure", tuple(_certainty(found)))


def _certainty(found: Findings) -> Iterator[Block]:
    for part in (_selection, _noise, _folds, _openings, _mistakes):
        yield from part(found)


def _openings(found: Findings) -> Iterator[Block]:
    """Yield how often the test split was opened."""
    if found.openings:
        times = "once" if found.openings == 1 else f"{found.openings} times"
        yield Text(f"The test split was opened {times}, after all training was over.")


def _selection(found: Findings) -> Iterator[Block]:
    best, corrected = found.best, found.corrected
    if best is None:
        yield Text("Without a best config there is nothing to be sure of.", weak=True)
        return
    if best.of > 1:
        yield Text(
            f"The validation score was the best of {best.of} configs and of their epochs. The best of many is partly "
            "luck, so by itself it promises too much."
        )
    if isinstance(corrected, Missing):
        yield Text(f"Not corrected: {corrected.why}.", weak=True)
        return
    off = abs(corrected.uncorrected - corrected.score)
    yield Text(
        f"Corrected by a bootstrap of the whole selection over {corrected.n_models} trained models and "
        f"{corrected.n_samples} validation samples: {words.number(corrected.score)}, 95 % interval "
        f"{words.number(corrected.low)} to {words.number(corrected.high)}; as searched "
        f"{words.number(corrected.uncorrected)}, which is {words.number(off)} too good."
    )
    yield Text(f"How it was made. {corrected.construction}", weak=True)
    if corrected.note:
        yield Text(corrected.note, weak=True)
    yield from _ties(found, corrected.ties, corrected.cheapest)


def _ties(found: Findings, ties: tuple[tuple[str, int], ...], cheapest: tuple[str, int] | None) -> Iterator[Block]:
    trials = len({trial for trial, _ in ties})
    if len(ties) < 2:
        yield Text("No other trained model ties with the best one on these validation samples.")
        return
    yield Text(
        f"{len(ties)} trained models of {words.count(trials, 'trial')} tie with the best on these samples: they cannot "
        "be told apart."
    )
    if cheapest is not None:
        yield Text(f"The cheapest of them is {cheapest[0]} at epoch {cheapest[1]}.")
    records = found.results.history.trials
    known = [(trial, epoch) for trial, epoch in ties if trial in records and epoch in records[trial].epochs]
    metric = found.results.metric
    yield Table(
        "ties",
        "Models that tie",
        (
            column("trial", [trial for trial, _ in known]),
            column("epoch", [epoch for _, epoch in known]),
            numbers(metric, [records[trial].epochs[epoch].metrics.get(metric) for trial, epoch in known]),
        ),
        most=10,
    )


def _noise(found: Findings) -> Iterator[Block]:
    base, metric = found.baseline, found.results.metric
    if base is None:
        return
    own = [r for r in found.results.records() if r.stage == "baseline"] or [base.trial]
    values = [value for r in own if (value := r.best_value(metric, found.results.mode)) is not None]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    if len(values) > 1 and spread == 0:
        yield Text(
            f"Noise: the baseline's {len(values)} seeds gave the same {metric}, too few to tell how much it varies."
        )
    elif len(values) > 1:
        yield Text(
            f"Noise: over the baseline's {len(values)} seeds {metric} has a standard deviation of "
            f"{words.number(spread)}; differences below that say little."
        )
    else:
        yield Text("The noise between seeds is not known: the baseline ran once.", weak=True)


def _folds(found: Findings) -> Iterator[Block]:
    if not (found.trials["stage"] == "cross_validate").any():
        yield Text("Not cross-validated: `tuner study` compares the best configs on folds.", weak=True)
        return
    raced = found.folds
    if isinstance(raced, Missing):
        yield Text(f"The folds are not compared: {raced.why}.", weak=True)
        return
    yield from _verdict(raced)
    if raced.means:
        yield _raced(found, raced)
    if raced.race.construction:
        yield Text(f"How they were compared. {raced.race.construction}", weak=True)
    if raced.race.note:
        yield Text(f"{raced.race.note.rstrip('.')}.", weak=True)


def _verdict(raced: Folds) -> Iterator[Block]:
    """Yield which config leads, and whom it cannot be told from."""
    race = raced.race
    if race.verdict == "open":
        yield Text(f"The cross-validation is not over: {race.looks} of {race.of} looks at its folds were taken.")
    if raced.leader is None or race.last is None:
        return
    blocks = words.count(len(race.last.blocks), "(seed, fold) block")
    text = f"Cross-validated on {blocks}: {raced.first[raced.leader]}'s config has the best mean. "
    tied = [raced.first.get(name, name) for name in race.alive]
    if len(tied) > 1:
        text += f"The configs of {words.names(tied)} cannot be told apart: they tie. "
    elif race.dropped:
        text += "Every other config is worse. "
    if race.dropped:
        names = [f"{raced.first.get(name, name)} (look {look} of {race.of})" for name, look in race.dropped.items()]
        text += f"Dropped as clearly worse: {words.names(names)}. "
    if race.failed:
        names = [raced.first.get(name, name) for name in race.failed]
        text += f"Set aside, since most of their folds failed: {words.names(names)}. "
    yield Text(
        text + "These configs were chosen by the search on data that is in the folds too, so their scores are still "
        "search-biased; the differences between them are what counts."
    )


def _raced(found: Findings, raced: Folds) -> Table:
    """Return the configs, the most probable first."""
    race, means = raced.race, raced.means
    chances = race.probability_best
    order = sorted(raced.configs, key=lambda name: (-chances.get(name, 0.0), name not in means))
    contrasts = {contrast.config: contrast.adjusted for contrast in race.last.contrasts} if race.last else {}
    stands = {name: f"dropped at look {look}" for name, look in race.dropped.items()}
    stands |= dict.fromkeys(race.failed, "failed")
    return Table(
        "cross_validation",
        "Cross-validated configs",
        (
            column("first trial", [raced.first.get(name) for name in order]),
            column("stands", [stands.get(name, "in the tie" if len(race.alive) > 1 else "won") for name in order]),
            numbers("mean", [means.get(name) for name in order]),
            numbers("probability of being best", [chances.get(name) for name in order]),
            numbers("p, if as good as the best mean", [contrasts.get(name) for name in order]),
            column("config", [_searched(found, raced.configs[name]) for name in order]),
        ),
    )


def _searched(found: Findings, config: Mapping[str, Any]) -> str:
    """Return a config on one line: what the space varies, or all of it where that is nothing."""
    return words.config_line({name: value for name, value in config.items() if name in found.varied} or dict(config))


def _mistakes(found: Findings) -> Iterator[Block]:
    """Yield what the best model predicts for the validation split."""
    array = found.best_predictions
    if isinstance(array, Missing):
        yield Text(f"What the best model gets wrong is not shown: {array.why}.", weak=True)
        return
    known = found.labels
    assert not isinstance(known, Missing)  # there are no fitting predictions without labels
    best = found.best
    which = f"{best.trial} at epoch {best.epoch}, on the validation split" if best else ""
    if not known.classes:
        yield Picture(
            "residuals",
            "Residuals",
            f"{which}. Left: on the dotted line a prediction is right. Right: how far off they are.",
            lambda dark: figures.draw_residuals(array, known.y, dark=dark),
        )
        return
    if len(set(known.y.tolist())) < 2:
        yield Text(
            "The validation split has samples of one class only, so nothing can be said of the others.", weak=True
        )
    else:
        yield Points((_worst(array, known),))
    draws = (
        ("confusion_matrix", "Confusion matrix", "Rows are the true classes.", figures.draw_confusion),
        ("roc", "ROC curves", "Each class against the rest.", figures.draw_roc),
        ("precision_recall", "Precision-recall curves", "Each class against the rest.", figures.draw_precision_recall),
    )
    for name, title, how, draw in draws:
        yield Picture(name, title, f"{which}. {how}", functools.partial(_drawn, draw, array, known))


def _drawn(draw: Callable[..., Figure], array: NDArray[np.float64], known: Labels, dark: bool) -> Figure:
    return draw(array, known.y, known.classes, dark=dark)


def _worst(array: NDArray[np.float64], known: Labels) -> str:
    """Return which class is confused with which most often."""
    predicted = array.argmax(axis=1)
    wrong = predicted != known.y
    if not wrong.any():
        return f"It gets all {len(known.y)} validation samples right."
    pairs, counts = np.unique(np.column_stack([known.y, predicted])[wrong], axis=0, return_counts=True)
    true, told = pairs[counts.argmax()]
    return (
        f"It gets {words.count(int(wrong.sum()), 'sample')} of {len(known.y)} wrong; most often it takes "
        f"{known.classes[true]} for {known.classes[told]} ({words.count(int(counts.max()), 'time')})."
    )
