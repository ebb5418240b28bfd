"""What to try next: advice in sentences, and the next space as a diff."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.report.blocks import Block, Points, Section, Table, Text, column
from tuner.report.findings import Findings, Missing


def advice(found: Findings) -> Section:
    """Return what the next sweep should do otherwise."""
    return Section("next", "What to try next", (*_sentences(found), *_rates(found), *_next_space(found)))


def _sentences(found: Findings) -> Iterator[Block]:
    told = found.advice
    if isinstance(told, Missing):
        yield Text(f"There is no advice: {told.why}.", weak=True)
    elif not told:
        yield Text("The trials bear out no advice: no parameter is linked to what the curves show.", weak=True)
    else:
        yield Points(tuple(told))


def _rates(found: Findings) -> Iterator[Block]:
    """Yield where the limits of the learning rate lie, a line an optimizer and schedule."""
    diagnosis = found.diagnosis
    if isinstance(diagnosis, Missing) or not diagnosis.learning_rates:
        return
    groups = diagnosis.learning_rates
    kinds = ("very_high", "high", "good", "low", "cut_short")
    counts = [[sum(rate.kind == kind for rate in group.rates) for group in groups] for kind in kinds]
    yield Table(
        "learning_rates",
        "Learning rates: how many trials of each kind, and where the limits lie",
        (
            column("optimizer", [group.optimizer or None for group in groups]),
            column("schedule", [group.schedule or None for group in groups]),
            *(column(kind.replace("_", " "), own) for kind, own in zip(kinds, counts, strict=True)),
            column("limits", ["; ".join(limit.rstrip(".") for limit in group.limits) or None for group in groups]),
        ),
    )


def _next_space(found: Findings) -> Iterator[Block]:
    refined = found.refined
    if isinstance(refined, Missing):
        yield Text(f"No next space is proposed: {refined.why}.", weak=True)
        return
    _, changes = refined
    yield Table(
        "next_space",
        "The next space",
        (
            column("parameter", [change.name for change in changes]),
            column("now", [change.before for change in changes]),
            column("next", [change.after for change in changes]),
            column("why", [change.why for change in changes]),
        ),
        most=50,
    )
