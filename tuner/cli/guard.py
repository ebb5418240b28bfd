"""A thin parent that owns the signals of `tuner run` and `tuner resume` on Ray.

Ray is native code: it may abort the process that drives it, or hang it, just when a person wants to leave. So the
driver is a child. The parent hands it the first signal as a request to save and leave, kills it where it does not leave
in time, and alone decides the exit status. Whatever becomes of the child: what it committed is in the journal.

The two hold the ends of one socket. The child tells its run folder and its exit status; a child that ends without
having told a status did not end by itself. The end of the socket tells the child that its parent is gone.

Nothing is imported here but the standard library, and little of it: it comes before everything else that a start takes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

LEAVE_S = 8.0
"""Seconds that the child has to save and leave."""

KILL_S = 1.5
"""Seconds to wait, at most, until what was killed is gone: the system needs a while to end a process under load."""

ONE_PRESS_S = 0.2
"""Seconds within which a second SIGINT is the first one again: a wrapper may pass on what the terminal also sent."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_COMMANDS = ("run", "resume", "study")
_SOCKET = "TUNER_PARENT"  # in the child's environment: its end of the socket
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

_parent: socket.socket | None = None


def wanted(arguments: Sequence[str]) -> bool:
    """Return whether a command runs in a child: one that runs a sweep on Ray, where this process was started for it.

    Args:
        arguments: What follows `tuner`.
    """
    inline = "--backend=inline" in arguments or ("--backend", "inline") in itertools.pairwise(arguments)
    started_so = sys.orig_argv[-len(arguments) :] == [*arguments]
    return list(arguments[:1]) in ([name] for name in _COMMANDS) and started_so and not inline


# -- in the child --------------------------------------------------------------------------------------------------


def attach() -> bool:
    """Meet the parent; returns whether there is one. From now on, where the parent dies, this process leaves."""
    global _parent
    number = os.environ.pop(_SOCKET, None)  # what this process starts is no child of that parent
    if number is None:
        return False
    os.set_inheritable(int(number), False)
    adopt_orphans()
    _parent = socket.socket(fileno=int(number))
    threading.Thread(target=_leave_with, args=(_parent,), daemon=True).start()
    return True


def whole_age_s() -> float:
    """Return how many seconds ago the command was started, the parent's time before this process included."""
    from tuner.timing import age_s

    return age_s(os.getppid() if _parent is not None else None)


def tell_folder(folder: Path) -> None:
    """Tell the parent, if there is one, what `tuner resume` would go on with."""
    _tell(b"folder", os.fsencode(folder))


def tell_status(status: int) -> None:
    """Tell the parent, if there is one, that all is said and done; what happens from here on decides nothing."""
    _tell(b"status", str(status).encode())


def _tell(what: bytes, value: bytes) -> None:
    if _parent is not None:
        with contextlib.suppress(OSError):
            _parent.sendall(what + b" " + value + b"\0")


def _leave_with(parent: socket.socket) -> None:
    """Wait for the parent's end, then save and leave, as nobody is there any more who could be asked to stop this."""
    # Signals are for the main thread: Python's handlers run there, once what it waits for is interrupted.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with contextlib.suppress(OSError):
        while parent.recv(1):
            pass
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(LEAVE_S)
    kill_family()
    os._exit(143)


# -- in the parent -------------------------------------------------------------------------------------------------


def run_guarded(command: Sequence[str]) -> int:
    """Run a command in a child and return the exit status.

    Args:
        command: The program and its arguments.

    Returns:
        130 after SIGINT, 143 after SIGTERM and SIGHUP, whatever the child does; else the status that it told, or 1
        where it died without telling one.
    """
    return _Guard().run(command)


class _Guard:
    def __init__(self) -> None:
        self.first: int | None = None  # the signal that ends it all
        self.since = 0.0
        self.deadline = float("inf")
        self.killed = False
        self.heard = b""
        self.folder: Path | None = None
        self.status: int | None = None  # as the child told it

    def run(self, command: Sequence[str]) -> int:
        wake = _wake_on_signals()
        adopt_orphans()
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        with theirs:
            self.child = subprocess.Popen(
                command,
                env={**os.environ, _SOCKET: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                # The parent alone hears Ctrl-C, which a terminal sends to both.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
            )
        while (ended := self.child.poll()) is None:
            self._wait(wake)
        self._listen()
        return self._leave(ended)

    def _wait(self, wake: int) -> None:
        patience = max(0.0, min(1.0, self.deadline - time.monotonic()))
        told = self.ours.fileno()  # -1 once the child has closed its end
        readable = select.select([end for end in (wake, told) if end >= 0], [], [], patience)[0]
        if told in readable:
            self._listen()
        if wake in readable:
            for number in os.read(wake, 64):
                self._on_signal(number)
        if time.monotonic() >= self.deadline:
            self._kill()

    def _listen(self) -> None:
        """Take in what the child tells."""
        with contextlib.suppress(OSError):
            while data := self.ours.recv(65536):
                self.heard += data
            self.ours.close()
        *told, self.heard = self.heard.split(b"\0")
        for what, _, value in (entry.partition(b" ") for entry in told):
            if what == b"folder":
                self.folder = Path(os.fsdecode(value))
            else:
                self.status = int(value)
                self.deadline = min(self.deadline, time.monotonic() + LEAVE_S)

    def _on_signal(self, number: int) -> None:
        now = time.monotonic()
        if number not in _SIGNALS:
            return  # SIGCHLD, which only wakes
        if self.first is None:
            self.first, self.since = number, now
            self.deadline = min(self.deadline, now + LEAVE_S)
            self.child.send_signal(signal.SIGTERM)
            self.child.send_signal(signal.SIGCONT)  # a stopped one would not hear it
        elif number == signal.SIGINT and now - self.since > ONE_PRESS_S:
            self._kill()

    def _kill(self) -> None:
        self.killed, self.deadline = True, float("inf")
        self.child.kill()

    def _leave(self, ended: int) -> int:
        """Clear up after the child, say what it could not say itself, and return the exit status."""
        by_itself = self.status is not None and not self.killed
        kill_family()  # also after a good end: workers of a Ray that died in between may be left
        if not by_itself:
            _remove_scratch()
        if self.first is not None:
            if self.status not in (130, 143):
                self._say("Interrupted", "Interrupted before anything was begun.")
            return 130 if self.first == signal.SIGINT else 143
        if self.status is None:
            how = _how(ended)
            self._say(f"The driver died ({how})", f"The driver died ({how}) before anything was begun.")
            return 1
        return self.status

    def _say(self, what: str, without_folder: str) -> None:
        """Print what happened and, where there is a run folder, the command that goes on from there."""
        from tuner.cli.copying import command

        if self.folder is not None:
            go_on = command("resume", self.folder)
            without_folder = f"{what}; what was done is saved. Go on with:\n  {go_on}"
        with contextlib.suppress(OSError):  # the terminal may be gone
            if os.isatty(1):  # the child could not clear up: a new line, and the cursor is shown again
                os.write(1, b"\n\x1b[?25h")
        with contextlib.suppress(OSError):
            os.write(2, f"{without_folder}\n".encode(errors="surrogateescape"))


def _wake_on_signals() -> int:
    """Return a file descriptor that gives the number of every signal that comes, so that none interrupts anything."""
    wake, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup, or a shell's background, has decided
            signal.signal(number, lambda number, frame: None)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return wake


def _how(ended: int) -> str:
    if ended >= 0:
        return f"exit status {ended}"
    reason = ", as the system does when memory runs out" if ended == -signal.SIGKILL else ""
    return f"{signal.Signals(-ended).name}{reason}"


def _remove_scratch() -> None:
    from tuner.backends.ray_tune.session import remove_left

    remove_left()


# -- in both -------------------------------------------------------------------------------------------------------


def kill_family() -> None:
    """Kill every process that came of this one, Ray's among them, and wait until they are gone.

    They are known by descent: this process has adopted those whose parent died. Their environment would not do, since a
    process that gives itself a title, as Ray's do, writes it over the start of its environment.

    Without /proc nothing is killed: there, Ray's processes end with their driver by themselves.
    """
    deadline = time.monotonic() + KILL_S
    empty = 0
    while empty < 2 and time.monotonic() < deadline:  # twice: one may change its parent while it is looked for
        family = descendants(os.getpid())
        empty = 0 if family else empty + 1
        for pid in family:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if family:
            time.sleep(0.02)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # the adopted, too, are there until somebody asks after them
                pass


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies; on Linux only."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(ancestor: int) -> list[int]:
    """Return the ids of all processes that came of one and are known to it, as far as /proc tells.

    Args:
        ancestor: Its id.
    """
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_bytes().rpartition(b") ")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = children.pop(ancestor, [])
    for pid in found:  # which grows
        found += children.pop(pid, [])
    return found
