"""Starts `tuner ...` as processes that can be killed: cold, as a user does, or forked from a warm process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_HOOK = Path(__file__).with_name("hook")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a killable process: the points are in it, and this checkout comes first."""
    return {**os.environ, "PYTHONPATH": f"{_HOOK}:{ROOT}", "PYTHONUNBUFFERED": "1", **more}


class Process:
    """One started command, the leader of its own session."""

    def __init__(self, pid: int, marker: str) -> None:
        self.pid, self.marker = pid, marker
        self.began = time.monotonic()
        self.status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal), or None while it runs."""
        raise NotImplementedError

    def wait(self, seconds: float) -> int | None:
        """Wait at most so many seconds; returns what poll() returns."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.status

    def family(self) -> list[int]:
        """Return the live processes that came of this one, itself included; Ray's are known by the environment."""
        return [pid for pid in _pids() if pid != os.getpid() and self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            if _stat(pid)[0] == "Z":
                return False
            return os.getsid(pid) == self.pid or self.marker.encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def clean(self, patience_s: float = 0.0) -> int:
        """Kill what is left of this process, after some patience; returns how many were left."""
        deadline = time.monotonic() + patience_s
        while (left := self.family()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            kill(pid)
        return len(left)


class ColdProcess(Process):
    """A new interpreter: `python -m tuner.cli ...`."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, output: Path) -> None:
        with output.open("ab") as file:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tuner.cli", *arguments],
                env=environment(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        super().__init__(self._child.pid, f"CHAOS_TRACE={env['CHAOS_TRACE']}")

    def poll(self) -> int | None:
        """See Process."""
        self.status = self._child.poll()
        return self.status


class WarmProcess(Process):
    """A fork of the warm process."""

    def __init__(self, starter: WarmStarter, pid: int, marker: str) -> None:
        super().__init__(pid, marker)
        self._starter = starter

    def poll(self) -> int | None:
        """See Process."""
        self._starter.read()
        self.status = self._starter.statuses.get(self.pid)
        return self.status


class WarmStarter:
    """A process that has imported everything and forks for each command, to spare a start-up of seconds a kill."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.chaos.starter"]
        env = {name: value for name, value in environment({}).items() if not name.startswith("CHAOS_")}
        self._server = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.statuses: dict[int, int] = {}
        self._pending = b""

    def start(self, requests: Sequence[Mapping[str, Any]]) -> list[WarmProcess]:
        """Start commands at once.

        Args:
            requests: Each with arguments, env, cwd and output.
        """
        assert self._server.stdin is not None
        self._server.stdin.write(f"{json.dumps(list(requests))}\n".encode())
        self._server.stdin.flush()
        pids: list[int] = []
        while not pids:
            pids = self.read(block=True)
        markers = [f"CHAOS_TRACE={request['env']['CHAOS_TRACE']}" for request in requests]
        return [WarmProcess(self, pid, marker) for pid, marker in zip(pids, markers, strict=True)]

    def read(self, block: bool = False) -> list[int]:
        """Take in what the server says; returns the pids that it has started."""
        assert self._server.stdout is not None
        started: list[int] = []
        while select.select([self._server.stdout], [], [], None if block else 0)[0]:
            data = os.read(self._server.stdout.fileno(), 65536)
            if not data:
                raise RuntimeError("the warm process died")
            self._pending += data
            *lines, self._pending = self._pending.split(b"\n")
            for said in map(json.loads, lines):
                if "pids" in said:
                    started = said["pids"]
                else:
                    self.statuses[said["pid"]] = said["status"]
            block = False
        return started

    def close(self) -> None:
        """End it."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        try:
            self._server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()


def kill(pid: int) -> bool:
    """SIGKILL one process; returns whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def command_line(pid: int) -> str:
    """Return a process's command line, or ""."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def parent(pid: int) -> int:
    """Return the pid of a process's parent, or 0."""
    with contextlib.suppress(OSError):
        return int(_stat(pid)[1])
    return 0


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _stat(pid: int) -> list[str]:
    """Return what the kernel says of a process: its state, its parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _serve() -> None:
    """Be the warm process: read requests, fork, tell how each ended."""
    import importlib

    for name in (
        "torch",
        "torch._dynamo",  # torch's optimizers import it, which takes seconds
        "hyperopt",
        "tuner.run",
        "tuner.cli.main",
        "tuner.cli.progress",
        "threadpoolctl",
        "rich.live",
        "sklearn.datasets",
        "trainables.cnn",
        "trainables.data",
        "tuner.study",
        "tuner.analysis.comparison",
        "tuner.analysis.paired",
        "tuner.analysis.refine",
    ):
        importlib.import_module(name)
    alive: set[int] = set()
    for line in sys.stdin.buffer:
        pids = [_fork(request) for request in json.loads(line)]
        _say({"pids": pids})
        alive.update(pids)
        while alive:
            pid, raw = os.wait()
            alive.discard(pid)
            _say({"pid": pid, "status": os.waitstatus_to_exitcode(raw)})


def _fork(request: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        output = os.open(request["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        status = _command(request["arguments"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _command(arguments: list[str]) -> int:
    from benchmarks.chaos.hosts import pretend
    from benchmarks.chaos.points import install
    from tuner.cli.main import main

    install(os.environ)
    if host := os.environ.get("CHAOS_HOST"):
        pretend(host, Path(os.environ["CHAOS_LOCKS"]))
    time.sleep(float(os.environ.get("CHAOS_DELAY", "0")))
    sys.argv = ["tuner", *arguments]
    main()
    return 0


def _say(what: dict[str, Any]) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())


if __name__ == "__main__":
    _serve()
