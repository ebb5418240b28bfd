"""`tuner jobs`: the sweeps that were submitted to a cluster, and their state."""

from __future__ import annotations

import time
from dataclasses import asdict

from tuner.cli.arguments import Insecure, Jobs, Json

EXAMPLE = "tuner jobs --address http://127.0.0.1:8265"


def jobs(address: Jobs = None, insecure: Insecure = False, json: Json = False) -> int:
    """List a cluster's jobs, newest first, and their state."""
    from tuner.cli import words
    from tuner.cli.columns import Column, lay_out
    from tuner.cli.terminal import console, show, show_json
    from tuner.jobs import reach

    server = reach(address, insecure=insecure)
    found, now = server.jobs(), time.time()
    if json:
        show_json([asdict(job) for job in found])
        return 0
    if not found:
        print(f"No jobs at {server.url} yet. Start one: tuner submit SWEEP")
        return 0
    exits = ["-" if job.exit_status is None else str(job.exit_status) for job in found]
    columns = [
        Column("job", [job.id for job in found], keep=True),
        Column("status", [job.status for job in found], keep=True),
        Column("exit", exits, right=True),
        Column("started", [words.age(now - job.started_at) for job in found]),
        Column("run", [job.run for job in found], keep=True),
    ]
    terminal = console()
    show(terminal, lay_out(columns, terminal.width).lines)
    return 0
