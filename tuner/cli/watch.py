"""`tuner watch`: a sweep that runs elsewhere, as its own terminal would show it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.cli.arguments import Run

if TYPE_CHECKING:
    from tuner.cli.standing import Goal
    from tuner.history import Event
    from tuner.results import Results

EXAMPLE = "tuner watch s3://bucket/runs/digits"

_LOOK_S = 2.0
_SHARE = 10  # a look that takes long is taken the less often


def watch(run: Run) -> int:
    """Follow a sweep to its end, as its own terminal shows it."""
    from tuner.cli.summary import verdict
    from tuner.cli.terminal import complain
    from tuner.pulling import small
    from tuner.results import load

    results = follow(run, lambda: load(run, small).status != "running")
    status, sentence = verdict(results, strict=False)
    if sentence:
        complain(sentence, "" if status else "Warning")
    return status


def follow(run: str, over: Callable[[], bool]) -> Results:
    """Show a run until it is over; leaves nothing of a live table behind.

    Args:
        run: The run; it must be there.
        over: Whether it has ended; asked before each look, so that what came before its end is shown.

    Raises:
        RunError: It cannot be read.
        Interrupted: The person has seen enough; the sweep goes on.
    """
    from tuner.cli.copying import command
    from tuner.cli.progress import closing, make_display
    from tuner.errors import Interrupted
    from tuner.pulling import small
    from tuner.results import find_run, load

    display = make_display(quiet=False)
    seen = 0
    try:
        with closing(display):
            while True:
                began, ended = time.monotonic(), over()
                events = _events(find_run(run, wanted=small))
                if not seen:
                    display.join(_goal(load(run, small)), *_sessions(events))
                for event in events:
                    if event.seq > seen and seen:
                        display.on_event(event)
                seen = events[-1].seq
                if ended:
                    break
                time.sleep(max(_LOOK_S, _SHARE * (time.monotonic() - began)))
    except KeyboardInterrupt:
        raise Interrupted(f"The sweep goes on. To see it again:\n  {command('watch', run)}", 130) from None
    return load(run, small)


def _events(folder: Path) -> list[Event]:
    from tuner import journal

    return journal.read(folder / journal.FILE_NAME)


def _sessions(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """Return what was committed before the newest driver's turn, and what it has committed."""
    starts = [place for place, event in enumerate(events) if event.kind == "session"]
    return events[: starts[-1] if starts else 0], events[starts[-1] if starts else 0 :]


def _goal(results: Results) -> Goal:
    from tuner.budgets import limits
    from tuner.cli.standing import Goal

    space, resources = results.sweep.get("space", {}), results.sweep.get("resources", {})
    varied = tuple(name for name in _names(space))
    trials = results.sweep["search"]["trials"] * results.sweep["search"].get("repeats", 1)
    return Goal(
        name=results.name,
        metric=results.metric,
        mode=results.mode,
        trials=max(trials, len(results.records())),
        max_epochs=results.max_epochs,
        varied=varied,
        limits=limits(resources, results.history.overrides),
    )


def _names(space: dict[str, object]) -> list[str]:
    """Return the parameters that a frozen sweep's space varies."""
    found: dict[str, None] = {}
    for name, domain in space.items():
        if isinstance(domain, dict):
            found[name] = None
            for branch in (domain.get("when") or {}).values():
                found |= dict.fromkeys(_names(branch))
    return list(found)
