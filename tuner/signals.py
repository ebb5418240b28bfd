"""Signals as exceptions that come where nothing is half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class _Signal(KeyboardInterrupt):
    """A signal that ends the sweep; a KeyboardInterrupt, so that no `except Exception` swallows it."""


class Signals:
    """While open, turns SIGINT, SIGTERM and SIGHUP into an exception in the main thread, but never within `held`.

    Only the first of them: one asks a process to leave that is leaving already, as when a whole process group is told.
    SIGINT alone counts again.
    """

    def __init__(self) -> None:
        self._came: int | None = None
        self._raised = False
        self._holds = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:  # as nohup, or a parent process, has decided
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore(*self._before)
        if self._came is not None and not self._raised and error[0] is None:
            signal.raise_signal(self._came)  # it came after all was done here, and may be meant for others

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._before:
                signal.signal(number, self._before.pop(number))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self._raised and number != signal.SIGINT
        self._came = self._came or number
        if not self._holds and not again:
            self._raise()

    def _raise(self) -> None:
        self._raised = True
        raise _Signal

    def hold(self) -> None:
        """Hold signals back from now on, until `heard`."""
        self._holds += 1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back; one that came meanwhile, or that somebody swallowed, is raised at the end."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        if self._came is not None and self._before and not self._holds:
            self._raise()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Raise at once what came so far, and what comes; after this, only SIGINT still interrupts what is saved."""
        self._holds -= 1
        try:
            if self._came is not None:
                self._raise()
            yield
        finally:
            self._holds += 1
            self._restore(signal.SIGINT)

    @property
    def exit_status(self) -> int:
        """What the process exits with: 130 for SIGINT, 143 for SIGTERM and SIGHUP."""
        return 130 if self._came in (None, signal.SIGINT) else 143
