"""`tuner submit`: a sweep as a job on a cluster."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.arguments import Insecure, Jobs, Json, Name, Set, Strict, SweepFile, overrides

if TYPE_CHECKING:
    from tuner.jobs import Job, Server

EXAMPLE = "tuner submit search_spaces/cnn_digits.toml --address http://127.0.0.1:8265 --storage s3://bucket/runs"

Storage = Annotated[
    str,
    typer.Option(metavar="PLACE", help="Where run folders live, as every node sees it: a URI or an absolute path."),
]
_LOOK_S, _PATIENCE_S = 1.0, 30.0

Study = Annotated[bool, typer.Option("--study", help="Run the whole workflow, as tuner study does.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow it, and exit with its status.")]


def submit(
    sweep: SweepFile,
    storage: Storage,
    address: Jobs = None,
    name: Name = None,
    set_: Set = None,
    study: Study = False,
    strict: Strict = False,
    wait: Wait = False,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Run a sweep file as a job on a cluster."""
    from tuner.cluster import submit as submit_sweep
    from tuner.jobs import reach
    from tuner.spec import load_sweep

    loaded = load_sweep(sweep, overrides(set_))
    server = reach(address, insecure=insecure)
    command = "study" if study else "run"
    job, new = submit_sweep(server, loaded, storage=storage, name=name, command=command, strict=strict)
    if json:
        from tuner.cli.terminal import show_json

        show_json({**asdict(job), "new": new, "address": server.url})
    else:
        tell(server, job, "was submitted as" if new else f"was submitted already ({job.status}), as")
    if not wait:
        return 0
    return _follow(server, job, quiet=json).outcome


def _follow(server: Server, job: Job, *, quiet: bool) -> Job:
    """Follow a job to its end: by the live table where there is a terminal, and its run can be read from here."""
    from tuner.cli import watch
    from tuner.cli.logs import follow
    from tuner.cli.terminal import console
    from tuner.errors import RunError
    from tuner.pulling import small
    from tuner.results import load

    def readable() -> bool:
        try:
            return bool(load(job.run, small))
        except RunError:
            return False

    if quiet or not console().is_terminal:
        return follow(server, job, quiet=quiet)
    while not (now := server.again(job)).over and not readable():
        time.sleep(_LOOK_S)
        if now.status == "running" and time.time() - now.started_at > _PATIENCE_S:
            return follow(server, job)  # its run folder is not to be seen from here
    if now.over:
        return follow(server, job)
    watch.follow(job.run, lambda: server.again(job).over)
    now = server.again(job)
    if now.outcome:
        return follow(server, now)  # it says why
    return now


def tell(server: Server, job: Job, how: str) -> None:
    """Print a job, and the commands for it."""
    from tuner.cli.copying import command
    from tuner.cli.terminal import console, show

    at = ["--address", server.url, *(["--insecure"] if server.insecure else [])]
    show(
        console(),
        [
            f"{job.name} {how} job {job.id}, in {job.run}. To follow it, stop it, go on with it, or fetch it:",
            f"  {command('logs', job.id, '--follow', *at)}",
            f"  {command('stop', job.id, *at)}",
            f"  {command('resume', job.run, *at)}",
            f"  {command('pull', job.run, f'runs/{job.name}')}",
        ],
    )
