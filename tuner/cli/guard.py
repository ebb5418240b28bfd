"""A thin parent that owns the signals of `tuner run` and `tuner resume` on Ray.

Ray is native code: it may abort the process that drives it, or hang it, just when a person wants to leave. So the driver is
a child. The parent hands it the first signal as a request to save and leave, waits, kills it if it does not leave in
time, and alone decides the exit status. Whatever becomes of the child, what it committed is in the journal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

GUARDED = "TUNER_GUARD_FD"
"""Set in the child: the file descriptor on which it tells its run folder."""

LEAVE_S = 8.0
"""Seconds that the child has to save and leave."""

_PR_SET_PDEATHSIG = 1


def is_guarded() -> bool:
    """Return whether this process is the child."""
    return GUARDED in os.environ


def tell_folder(folder: Path) -> None:
    """Tell the parent, if there is one, which run folder a resume would need."""
    if is_guarded():
        with contextlib.suppress(OSError, ValueError):
            os.write(int(os.environ[GUARDED]), f"{folder}\n".encode())


def run_guarded(arguments: Sequence[str]) -> int:
    """Run a command in a child and return its exit status, or 130 or 143 where a signal ended it.

    Args:
        arguments: What follows `tuner`.
    """
    return _Guard(arguments).wait()


class _Guard:
    def __init__(self, arguments: Sequence[str]) -> None:
        self.first: int | None = None
        self.deadline = float("inf")
        self.folder, writer = os.pipe()
        os.set_blocking(self.folder, False)
        os.set_inheritable(writer, True)
        # Handlers first: a signal between the start of the child and this would leave it alone.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self.child: subprocess.Popen[bytes] | None = None
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tuner.cli", *arguments],
            env={**os.environ, GUARDED: str(writer), "TUNER_PROGRAM": sys.argv[0]},
            pass_fds=(writer,),
            preexec_fn=_in_child,
        )
        os.close(writer)
        if self.first is not None:
            self.child.send_signal(signal.SIGTERM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.first is None:
            self.first, self.deadline = number, time.monotonic() + LEAVE_S
            if self.child is not None:
                self.child.send_signal(signal.SIGTERM)
        elif number == signal.SIGINT and self.child is not None:
            self.child.kill()  # asked twice: leave now; what is committed stays

    def wait(self) -> int:
        assert self.child is not None
        while (status := self._poll()) is None:
            if time.monotonic() > self.deadline:
                self.child.kill()
        if self.first is not None:
            if status not in (130, 143):  # it could not say so itself
                self._say("Interrupted; what was committed is saved.")
            return 130 if self.first == signal.SIGINT else 143
        if status < 0:
            self._say(f"The driver died ({signal.Signals(-status).name}); what it committed is saved.")
            return 1
        return status

    def _poll(self) -> int | None:
        assert self.child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.child.wait(timeout=0.2)
        return None

    def _say(self, what: str) -> None:
        from tuner.cli.copying import command
        from tuner.cli.terminal import complain

        with contextlib.suppress(BlockingIOError):
            told = os.read(self.folder, 65536).decode(errors="replace").splitlines()
            if told:
                what = f"{what} Go on with:\n  {command('resume', told[-1])}"
        complain(what)


def _in_child() -> None:
    """Between fork and exec: the parent alone hears Ctrl-C, and the child does not outlive the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
