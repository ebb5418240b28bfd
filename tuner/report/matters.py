"""What mattered: importance, effects, and every trial against each parameter."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tuner.analysis import figures
from tuner.analysis.figures.parameters import parameters
from tuner.report.blocks import Block, Picture, Section, Table, Text, column, numbers
from tuner.report.findings import Findings, Missing

# Charts of single parameters are of the most important ones; all of them are in the table.
MOST_CHARTS = 8


def matters(found: Findings) -> Section:
    """Return what the search says of the parameters."""
    if not len(found.searched):
        return Section("matters", "What mattered", (Text("No trial has begun yet.", weak=True),))
    return Section("matters", "What mattered", (*_importance(found), *_effects(found), *_trials(found)))


def _importance(found: Findings) -> Iterator[Block]:
    results = found.importances
    if isinstance(results, Missing):
        yield Text(f"Importance is not shown: {results.why}.", weak=True)
        return
    told = [result for result in results if result.entries]
    for result in results:
        if result.note:
            what = "the score" if result.target == "score" else "the gap between train and validation"
            yield Text(f"On importance for {what}: {result.note.rstrip('.')}.", weak=True)
    if not told:
        return
    epoch = f" Trials are compared at epoch {told[0].epoch}, which all of them reached." if told[0].epoch else ""
    yield Picture(
        "importance",
        "Importance",
        f"Which share of the differences between trials each parameter explains by itself.{epoch}",
        lambda dark: figures.draw_importance(told, dark=dark),
    )
    entries = [(result.target, entry) for result in told for entry in result.entries]
    yield Table(
        "importance",
        "Importance in numbers",
        (
            column("of", [target for target, _ in entries]),
            column("parameter", [entry.name for _, entry in entries]),
            numbers("share", [entry.value for _, entry in entries]),
            numbers("low", [entry.low for _, entry in entries]),
            numbers("high", [entry.high for _, entry in entries]),
            column("trials", [entry.n for _, entry in entries]),
        ),
        most=20,
    )


def order(found: Findings) -> list[str]:
    """Return the searched parameters, the most important first."""
    results = found.importances
    ranked: list[str] = []
    if not isinstance(results, Missing) and results:
        ranked = [entry.name.rpartition("/")[2] for entry in results[0].entries]
    return [name for name in dict.fromkeys([*ranked, *found.varied]) if name in found.varied]


def _effects(found: Findings) -> Iterator[Block]:
    metric, mode = found.results.metric, found.results.mode
    dependences, labels = found.dependences, labels_by_importance(found)
    curves = [] if isinstance(dependences, Missing) else [curve for curve in dependences.curves if curve.name in labels]
    if curves:
        curves = sorted(curves, key=lambda curve: labels.index(curve.name))[:MOST_CHARTS]
        yield Picture(
            "partial_dependence",
            "The average effect of each parameter",
            f"Average {metric} along one parameter, over all values of the others; the band is its 95 % interval.",
            lambda dark: figures.draw_partial_dependence(curves, metric, dark=dark),
        )
        yield from _pairs(found, [curve.name for curve in curves])
    single = found.changes_of_baseline
    if isinstance(single, Missing):
        yield Text(f"Effects of single changes are not shown: {single.why}.", weak=True)
    elif not len(single):
        yield Text(
            "No trial differs from the baseline in one parameter alone, so single changes are not shown.", weak=True
        )
    else:
        yield Picture(
            "one_at_a_time",
            "What changing one parameter of the baseline did",
            "Only trials that differ from the baseline in one parameter count.",
            lambda dark: figures.draw_one_at_a_time(single, metric, mode, dark=dark),
        )


def labels_by_importance(found: Findings) -> list[str]:
    """Return the parameters' places in the space, the most important first."""
    results = found.importances
    if isinstance(results, Missing) or not results or not results[0].entries:
        return [] if isinstance(found.dependences, Missing) else [curve.name for curve in found.dependences.curves]
    return [entry.name for entry in results[0].entries]


def _pairs(found: Findings, names: list[str]) -> Iterator[Block]:
    """Yield heatmaps of the most important pairs."""
    pairs = list(itertools.combinations(names[:3], 2))
    maps = found.pairs(pairs) if pairs else []
    if isinstance(maps, Missing) or not any(entry.mean.size for entry in maps):
        return
    yield Picture(
        "pairs",
        "Pairs of parameters",
        "Average score over both, of the three most important parameters; hatched where both never occur together.",
        lambda dark: figures.draw_pairwise(maps, found.results.metric, dark=dark),
    )


def _trials(found: Findings) -> Iterator[Block]:
    trials, space = found.searched, found.known_space
    differing = {entry.name for entry in parameters(trials, space)}
    names = [name for name in order(found) if name in differing]
    metric, mode = found.results.metric, found.results.mode
    if not names:
        yield Text("No parameter differs between the trials, so nothing can be said of any.", weak=True)
        return
    shown = names[:MOST_CHARTS]
    rest = f" The {len(shown)} most important of {len(names)} parameters." if len(names) > len(shown) else ""
    yield Picture(
        "slices",
        "Every trial against each parameter",
        f"Trials without a value lie on the edge of the worse side.{rest}",
        lambda dark: figures.draw_slices(trials, space, metric, mode, names=shown, dark=dark),
    )
    yield Picture(
        "parallel",
        "Parallel coordinates",
        "A line is a trial: where it crosses a row is its value there.",
        lambda dark: figures.draw_parallel(trials, space, metric, mode, names=names, dark=dark),
    )
