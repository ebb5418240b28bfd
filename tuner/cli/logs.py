"""`tuner logs`: what a job has printed."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.arguments import Insecure, JobName, Jobs

if TYPE_CHECKING:
    from tuner.jobs import Job, Server

EXAMPLE = "tuner logs cnn_digits --follow --address http://127.0.0.1:8265"

_LOOK_S = 1.0
_SHARE = 20  # the server hands out whole logs: a look that takes long is taken the less often
_PATIENCE_S = 60.0

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends, and exit with its status.")]


def logs(job: JobName, follow_: Follow = False, address: Jobs = None, insecure: Insecure = False) -> int:
    """Print what a job has printed."""
    from tuner.jobs import reach

    server = reach(address, insecure=insecure)
    found = server.find(job)
    if follow_:
        return follow(server, found).outcome
    _write(server.log(found) or f"{found.error}\n")
    return 0


def follow(server: Server, job: Job, *, quiet: bool = False) -> Job:
    """Print what a job prints until it ends; returns how it ended.

    Args:
        server: Its Jobs server.
        job: The job.
        quiet: Print nothing, and only wait.

    Raises:
        UsageError: The server has been out of reach for a minute.
        Interrupted: The person has seen enough; the job goes on.
    """
    from tuner.cli.copying import command
    from tuner.errors import Interrupted

    shown = 0
    try:
        while True:
            began = time.monotonic()
            now, text = _look(server, job)
            if not quiet:
                _write(text[shown:])
            shown = len(text)
            if now.over:
                if not text and not quiet:
                    _write(f"{now.error}\n")
                return now
            time.sleep(max(_LOOK_S, _SHARE * (time.monotonic() - began)))
    except KeyboardInterrupt:
        stop = command("stop", job.id, "--address", server.url)
        raise Interrupted(f"Job {job.id} goes on. To stop it:\n  {stop}", 130) from None


def _look(server: Server, job: Job) -> tuple[Job, str]:
    """Return a job and its log, with patience for a connection that comes and goes."""
    from tuner.errors import UsageError

    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            now = server.again(job)  # first: what it printed before its end is in the log that follows
            return now, server.log(now)
        except UsageError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_LOOK_S)


def _write(text: str) -> None:
    from tuner.cli.terminal import mute

    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        mute(sys.stdout)
