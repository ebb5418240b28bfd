"""The arguments that several commands share, each with its help."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class BackendName(StrEnum):
    """Where trials run."""

    ray = "ray"
    inline = "inline"


def _runs(incomplete: str) -> list[str]:
    """Complete a run's name in the shell."""
    from tuner.results import DEFAULT_STORAGE, run_names

    names = [*run_names(Path(DEFAULT_STORAGE)), "latest"]
    return [name for name in names if name.startswith(incomplete)]


SweepFile = Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep file (TOML).", show_default=False)]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run folder, its storage URI, a name in ./runs, or latest.",
        autocompletion=_runs,
        show_default=False,
    ),
]
Storage = Annotated[str, typer.Option(metavar="DIR", help="Where run folders live: a path or a URI.")]
Name = Annotated[str | None, typer.Option(help="The run's name; a taken one is refused.", show_default="the sweep's")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE ...", help="Override any key: --set search.trials=8 sweep.seed=1"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 if any trial failed.")]
Timing = Annotated[bool, typer.Option("--timing", help="Show at the end where each second went.")]
Backend = Annotated[
    BackendName,
    typer.Option(help="ray: this machine's cores and GPUs, or a cluster. inline: this process, one trial at a time."),
]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Join this Ray cluster; auto: the one on this machine.", show_default=False),
]
Jobs = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's Jobs server, http://host:port.",
        show_default="$RAY_API_SERVER_ADDRESS",
    ),
]
JobName = Annotated[
    str, typer.Argument(metavar="JOB", help="A job's id, or its run's name: its newest job.", show_default=False)
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Allow a cluster beyond this machine that asks nobody for a token.")
]


def spread_sets(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `--set a.b=1 c.d=2` written as `--set a.b=1 --set c.d=2`."""
    spread: list[str] = []
    inside = False
    for argument in arguments:
        if inside and re.match(r"[A-Za-z_][^/=\s]*=", argument) and spread[-1] != "--set":
            spread.append("--set")
        elif argument == "--set":
            inside = True
        elif spread[-1:] != ["--set"]:
            inside = False
        spread.append(argument)
    return spread


def overrides(given: list[str] | None) -> list[str]:
    """Return the values of --set; none were given: an empty list."""
    return list(given or [])
