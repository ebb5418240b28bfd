"""`tuner stop`: a job saves what is done and leaves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tuner.cli.arguments import Insecure, JobName, Jobs

if TYPE_CHECKING:
    from tuner.jobs import Job, Server

EXAMPLE = "tuner stop cnn_digits --address http://127.0.0.1:8265"

_LOOK_S = 0.3


def stop(job: JobName, address: Jobs = None, insecure: Insecure = False) -> int:
    """Stop a job; what is done is saved."""
    from tuner.cli.copying import command
    from tuner.cli.terminal import console, show
    from tuner.jobs import reach

    server = reach(address, insecure=insecure)
    found = server.find(job)
    how = "had ended before"
    if not found.over:
        server.stop(found)
        found, how = _ended(server, found), "ended"
    at = ["--address", server.url, *(["--insecure"] if insecure else [])]
    said = f"Job {found.id} {how}: {found.status}."
    if found.status != "succeeded":
        said += f" What was done is saved; go on with:\n  {command('resume', found.run, *at)}"
    show(console(), [said])
    return 0


def _ended(server: Server, job: Job) -> Job:
    """Wait until a job that was told to stop has ended.

    Raises:
        UsageError: It has not, although it should have been killed by now.
    """
    from tuner.cluster import STOP_S
    from tuner.errors import UsageError

    deadline = time.monotonic() + STOP_S + 15
    while not (job := server.again(job)).over:
        if time.monotonic() > deadline:
            raise UsageError(f"{job.id}: it was told to stop, and is {job.status} still. See: tuner logs {job.id}")
        time.sleep(_LOOK_S)
    return job
