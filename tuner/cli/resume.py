"""`tuner resume`: go on with a sweep from its run folder, or add trials to a finished one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.arguments import Backend, BackendName, Insecure, Quiet, Run, Set, Strict, Timing, overrides
from tuner.cli.run import watched

if TYPE_CHECKING:
    from tuner.results import Results

EXAMPLE = "tuner resume latest --trials 48"

Trials = Annotated[int | None, typer.Option(min=1, help="Extend the sweep to this many configs.", show_default=False)]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Join this Ray cluster. With http://host:port, its Jobs server: go on there, as a new job.",
        show_default=False,
    ),
]
Again = Annotated[bool, typer.Option("--again", help="Score a finished study's test split once more.")]


def resume(
    run: Run,
    trials: Trials = None,
    again: Again = False,
    backend: Backend = BackendName.ray,
    address: Address = None,
    insecure: Insecure = False,
    set_: Set = None,
    quiet: Quiet = False,
    strict: Strict = False,
    timing: Timing = False,
) -> int:
    """Go on with an interrupted sweep, or extend a finished one."""
    from tuner.jobs import is_url

    if is_url(address):
        return _as_job(run, address, insecure, _options(trials, again, set_, strict))
    from tuner.cli.guard import tell_folder
    from tuner.pulling import small
    from tuner.results import load
    from tuner.run import resume as resume_sweep

    extra = overrides(set_)
    results = load(run, small)
    tell_folder(results.folder)
    changed = again or (results.history.study and (trials or extra))  # what it may not be is said in resume
    if results.status in ("completed", "failed") and not changed and _nothing_to_add(results, trials, extra):
        return already_finished(results, quiet=quiet, strict=strict)
    return watched(
        lambda watch: resume_sweep(
            results.folder,
            trials=trials,
            overrides=extra,
            backend=backend.value,
            address=address,
            insecure=insecure,
            watch=watch,
            again=again,
        ),
        inline=backend is BackendName.inline,
        quiet=quiet,
        strict=strict,
        timing=timing,
    )


def _options(trials: int | None, again: bool, set_: list[str] | None, strict: bool) -> list[str]:
    more = ["--trials", str(trials)] if trials else []
    flags = ["--again"] * again + ["--strict"] * strict
    return [*more, *flags, *(word for text in overrides(set_) for word in ("--set", text))]


def _as_job(run: str, address: str | None, insecure: bool, options: list[str]) -> int:
    from tuner.cli.submit import tell
    from tuner.cluster import resubmit
    from tuner.jobs import reach

    server = reach(address, insecure=insecure)
    tell(server, resubmit(server, run, options), "goes on as")
    return 0


def _nothing_to_add(results: Results, trials: int | None, extra: list[str]) -> bool:
    """Return whether every trial that the sweep asks for is over; asks neither for data nor for Ray."""
    from tuner.run import nothing_left
    from tuner.spec import load_sweep

    more = [*results.history.overrides, *extra, *([f"search.trials={trials}"] if trials else [])]
    return nothing_left(load_sweep(results.folder / "sweep.toml", more), results.history)


def already_finished(results: Results, *, quiet: bool, strict: bool) -> int:
    """Say that a sweep is over and has nothing to add; returns its exit status."""
    from tuner.cli.copying import command
    from tuner.cli.summary import next_commands, verdict
    from tuner.cli.terminal import complain, console, show
    from tuner.cli.words import count

    status, sentence = verdict(results, strict)
    if not quiet:
        trials = count(len(results.records()), "trial")
        said = f"{results.name} is finished: {trials}, nothing to add. To see it, or to add to it:"
        if results.history.study:
            said = f"{results.name} is finished: {trials}; {_openings(results)}. To see it, or its best config:"
        show(console(), [said, f"  {command('show', results.folder)}", f"  {list(next_commands(results))[-1]}"])
    if sentence and status:
        complain(sentence)
    return status


def _openings(results: Results) -> str:
    from tuner.cli.words import count
    from tuner.openings import openings

    stood = openings(results.history.notes)
    if not stood.count:
        return "the test split is sealed"
    return f"the test split was opened {count(stood.count, 'time')}, and is again only with --again"
