"""`tuner run`: a sweep from its file to its best config."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.cli.arguments import (
    Address,
    Backend,
    BackendName,
    Insecure,
    Name,
    Quiet,
    Set,
    Storage,
    Strict,
    SweepFile,
    Timing,
    overrides,
)

if TYPE_CHECKING:
    from tuner.drive import Watch
    from tuner.history import Event
    from tuner.plan import Plan
    from tuner.results import Results
    from tuner.timing import Clock

EXAMPLE = "tuner run search_spaces/cnn_digits.toml --set search.trials=8"


def run(
    sweep: SweepFile,
    storage: Storage = "runs",
    name: Name = None,
    backend: Backend = BackendName.ray,
    address: Address = None,
    insecure: Insecure = False,
    set_: Set = None,
    quiet: Quiet = False,
    strict: Strict = False,
    timing: Timing = False,
) -> int:
    """Run a sweep file to its best config."""
    from tuner.run import run as run_sweep
    from tuner.spec import load_sweep

    loaded = load_sweep(sweep, overrides(set_))
    return watched(
        lambda watch: run_sweep(
            loaded, storage=storage, name=name, backend=backend.value, address=address, insecure=insecure, watch=watch
        ),
        inline=backend is BackendName.inline,
        quiet=quiet,
        strict=strict,
        timing=timing,
    )


def watched(start: Callable[[Watch], Results], *, inline: bool, quiet: bool, strict: bool, timing: bool = False) -> int:
    """Run or resume a sweep with a display, show its end, and return its exit status.

    Args:
        start: Runs it, with the hooks that it is given.
        inline: Whether trials run in this process.
        quiet: Show nothing but errors.
        strict: Whether any failed trial counts.
        timing: Show at the end where the time went.

    Raises:
        TunerError: As tuner.run; an interruption with the command that goes on from there.
    """
    from tuner.cli.copying import command
    from tuner.cli.guard import tell_folder, whole_age_s
    from tuner.cli.progress import closing, make_display
    from tuner.cli.terminal import complain
    from tuner.drive import Watch
    from tuner.errors import Interrupted, SweepFailed
    from tuner.timing import Clock

    clock = Clock(whole_age_s())
    display, plans = make_display(quiet, inline=inline), list[tuple["Plan", Path]]()

    def on_plan(plan: Plan, folder: Path) -> None:
        plans.append((plan, folder))
        tell_folder(folder)
        if not quiet:
            _warn(plan)
        display.on_plan(plan, folder)

    began = time.monotonic()
    try:
        with _notes_told(quiet) as note, closing(display):

            def on_event(event: Event) -> None:
                note(event)
                display.on_event(event)

            hooks = Watch(
                on_plan=on_plan, on_event=on_event, on_stage=display.on_stage, clock=clock, on_wait=_tell_wait
            )
            results = start(hooks)
    except Interrupted as stop:
        raise _with_command(stop, plans[-1][1]) if plans else stop from None
    except SweepFailed as stop:
        if stop.folder is None:
            raise
        on = command("resume", stop.folder)
        complain(f"{stop.why} What was done is saved{_done(stop.folder)}; go on with:\n  {on}")
        return stop.exit_status
    if not plans:  # it was over when its lease ended that was waited for
        from tuner.cli.resume import already_finished

        return already_finished(results, quiet=quiet, strict=strict)
    clock.turn("end")
    status = _end(results, plans[-1][0], time.monotonic() - began, quiet=quiet, strict=strict)
    if timing:
        _show_timing(clock)
    return status


def _show_timing(clock: Clock) -> None:
    from tuner.cli.terminal import console, show
    from tuner.cli.times import table

    show(console(), table(clock))


def _tell_wait(sentence: str) -> None:
    from tuner.cli.terminal import complain

    complain(sentence, "Note")


@contextlib.contextmanager
def _notes_told(quiet: bool) -> Iterator[Callable[[Event], None]]:
    """Yield what takes events; the warnings among them are told once the display is closed."""
    from tuner.cli.terminal import complain

    warnings: list[str] = []

    def take(event: Event) -> None:
        if event.kind == "note" and "warning" in event.body:
            warnings.append(str(event.body["warning"]))

    try:
        yield take
    finally:
        for sentence in [] if quiet else warnings:
            complain(sentence, "Warning")


def _warn(plan: Plan) -> None:
    from tuner.cli.terminal import complain

    for sentence in plan.learnt:
        complain(sentence, "Learns from")
    for sentence in plan.warnings:
        complain(sentence, "Warning")


def _with_command(stop: Exception, folder: Path) -> Exception:
    from tuner.cli.copying import command
    from tuner.errors import Interrupted

    assert isinstance(stop, Interrupted)
    return Interrupted(
        f"Interrupted; what was done is saved{_done(folder)}. Go on with:\n  {command('resume', folder)}",
        stop.exit_status,
    )


def _done(folder: Path) -> str:
    """Return ` (3 completed, 1 interrupted)`, or nothing where there is nothing, or it cannot be read now."""
    from tuner.cli.words import states
    from tuner.errors import RunError
    from tuner.results import load

    try:
        counts = states(load(folder).counts())
    except RunError:
        return ""
    return f" ({counts})" if counts else ""


def _end(results: Results, plan: Plan, seconds: float, *, quiet: bool, strict: bool) -> int:
    from tuner.cli.summary import summary, verdict
    from tuner.cli.terminal import complain, console, show

    status, sentence = verdict(results, strict)
    if not quiet:
        show(console(), summary(results, plan.sweep, seconds))
    if sentence and (status or not quiet):
        complain(sentence, "" if status else "Warning")
    return status
