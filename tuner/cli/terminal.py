"""Where output goes: data and progress to standard output, warnings and errors to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

from tuner.strict_json import to_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def console(file: IO[str] | None = None) -> Console:
    """Return a console on standard output as it is now.

    It is bound to that file: while a trial runs in this process, sys.stdout is the trial's log.
    """
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            mute(self.file)

    return Terminal(file=file or sys.stdout, highlight=False, emoji=False, markup=False)


def mute(file: IO[str]) -> None:
    """Send what is still to come nowhere: whoever read the file is gone (`| head`, a closed session)."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def show(terminal: Console, lines: Iterable[RenderableType]) -> None:
    """Print each line as it is: a terminal folds one that is too long, so that paths and commands stay whole."""
    for line in lines:
        terminal.print(line, soft_wrap=True)


def show_json(rows: Any) -> None:
    """Print strict JSON and nothing else."""
    try:
        print(to_json(rows), flush=True)
    except BrokenPipeError:
        mute(sys.stdout)


def complain(text: str, kind: str = "") -> None:
    """Print a sentence on standard error.

    Args:
        text: The sentence.
        kind: "Warning" or nothing.
    """
    from rich.text import Text

    prefix = Text(f"{kind}: ", style="bold yellow") if kind else Text()
    try:
        show(console(sys.stderr), [prefix + Text(text)])
    except OSError:  # a terminal that is closed: the exit status still counts
        mute(sys.stderr)
