"""`tuner whatif`: what another stopping rule would have saved, and cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli.arguments import Json, Run, Set, overrides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuner.analysis.whatif import WhatIf
    from tuner.results import Results
    from tuner.stopping import Rule

EXAMPLE = "tuner whatif latest --stopping asha --set stopping.asha.grace_epochs=2"

# More stops than this say less; --json has all of them.
SHOWN = 10
Stopping = Annotated[
    list[str],
    typer.Option("--stopping", metavar="RULE", help="A stopping rule; again for another.", show_default=False),
]


def whatif(run: Run, stopping: Stopping, set_: Set = None, json: Json = False) -> int:
    """Replay a run's curves under other stopping rules.

    It tells the epochs saved, and whether the same config would have won. Only trials that completed are replayed, in
    the order of their reports; the configs stay those that were proposed.
    """
    from tuner.analysis.whatif import what_if
    from tuner.cli.terminal import show_json
    from tuner.pulling import small
    from tuner.results import load

    rules = _rules(stopping, overrides(set_))
    results = load(run, small)
    rules = [rule.for_mode(results.mode) for rule in rules]
    # A trial that its driver left behind is interrupted, whatever its last row says.
    records = [dataclasses.replace(record, status=results.status_of(record)) for record in results.records()]
    told = what_if(records, rules, results.metric, results.mode, results.max_epochs)
    if json:
        named = {rule.name: rule.model_dump() for rule in rules}
        parts = {**dataclasses.asdict(told), "same_winner": told.same_winner}
        show_json({"run": results.name, "metric": results.metric, "mode": results.mode, "rules": named, **parts})
    else:
        for line in _lines(results, rules, told):
            print(line)
    return 0


def _rules(names: list[str], sets: list[str]) -> list[Rule]:
    """Return the rules with their options, or every mistake in them at once."""
    from tuner.errors import Problem, SweepError
    from tuner.spec.files import override
    from tuner.stopping import RULES, check

    problems: list[Problem] = []
    tables: dict[str, Any] = {}
    for text in sets:
        key = override(tables, text, problems)
        if key is not None and (not key.startswith("stopping.") or key == "stopping.rules"):
            remedy = "Write it like --set stopping.asha.grace_epochs=2, and name the rules with --stopping."
            problems.append(Problem(f"--set {key}", "must be an option of a stopping rule", remedy=remedy))
    options = tables.get("stopping", {})
    options.pop("rules", None)
    problems += check(names, options)
    if problems:
        raise SweepError("tuner whatif", problems)
    return [RULES[name](**options.get(name, {})) for name in names]


def _lines(results: Results, rules: list[Rule], told: WhatIf) -> Iterator[str]:
    from tuner.cli import words

    yield f"{results.name} under {', '.join(map(_described, rules))}"
    yield ""
    if told.left_out:
        short = words.states(told.left_out)
        count = words.count(sum(told.left_out.values()), "curve")
        yield f"Left out: {count} cut short ({short}); what they would have come to is not known."
    if not told.trials:
        yield "No trial completed, so there is nothing to replay."
        return
    share = told.saved / told.epochs if told.epochs else 0.0
    yield (
        f"Replayed: {words.count(told.trials, 'completed trial')}; {len(told.stops)} would have been stopped, "
        f"{told.saved} of {words.count(told.epochs, 'epoch')} saved ({share:.0%})."
    )
    yield from _winner(results, told)
    yield from (f"  {stop.trial}  at epoch {stop.epoch} of {stop.epochs}: {stop.reason}" for stop in told.stops[:SHOWN])
    if len(told.stops) > SHOWN:
        yield f"  and {len(told.stops) - SHOWN} more (--json has all)"


def _described(rule: Rule) -> str:
    from tuner.cli import words

    options = ", ".join(f"{name}={words.value(item)}" for name, item in rule.model_dump().items())
    return f"{rule.name} ({options})"


def _winner(results: Results, told: WhatIf) -> Iterator[str]:
    from tuner.cli import words

    if told.winner is None:
        yield f"None of them has a finite {results.metric}, so there is no winner to compare."
        return
    was = f"{told.winner} ({results.metric} {words.number(told.value)})"
    if told.same_winner:
        yield f"The same winner: {was}."
    else:
        instead = f"{told.winner_after} ({words.number(told.value_after)} when trained to its end)"
        yield f"Another winner: {instead}, not {was}."
    if told.best != told.winner:
        yield f"The sweep's own best is {told.best}: a curve of its config was cut short, so it is left out."
