"""Named points before and after every durable write to a run folder, at which the process can kill itself.

The engine holds no hooks: the functions by which it writes (sqlite3's commits, fsync, rename, pwrite, mkdir, unlink,
rmdir, copyfile) are wrapped. Each passing of a point is a line of the trace file; a kill is "name|count": the count-th
passing of that name in one process. Where several processes could kill themselves, the first does.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_INSERT = re.compile(r"\s*INSERT INTO events", re.I)
_END = re.compile(r"\s*(COMMIT|END)\b", re.I)


class Points:
    """One process's way through the named points.

    Args:
        run: The run folder; writes elsewhere are no points.
        trace: File to which every point's name is appended.
        kill: "name|count", or "" to live.
        token: Made by the process that kills itself; where it exists, nobody does.
    """

    def __init__(self, run: str, trace: str, kill: str, token: str) -> None:
        self.run = run
        self.trace = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        name, _, count = kill.rpartition("|")
        self.target, self.count, self.token = name, int(count or 0), token
        self.passed: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        """Pass a point; this may be the last thing that the process does."""
        os.write(self.trace, f"{name}\n".encode())
        self.passed[name] += 1
        if name == self.target and self.passed[name] == self.count:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.token, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.kill(os.getpid(), signal.SIGKILL)

    def name(self, path: Any, dir_fd: int | None = None) -> str | None:
        """Return what a path is called in a point's name (numbers left out), or None outside the run folder."""
        with contextlib.suppress(OSError, TypeError, ValueError):
            if isinstance(path, int):
                text = str(Path(f"/proc/self/fd/{path}").readlink())
            else:
                base = str(Path(f"/proc/self/fd/{dir_fd}").readlink()) if dir_fd is not None else str(Path.cwd())
                text = str(Path(base, os.fsdecode(path)))
            if text == self.run or text.startswith(f"{self.run}/"):
                return re.sub(r"\d+", "N", text[len(self.run) :].lstrip("/")) or "."
        return None

    def wrap(self, module: Any, function: str, which: int) -> None:
        """Wrap a function whose argument number `which` is the path or descriptor that it writes."""
        real: Callable[..., Any] = getattr(module, function)

        @functools.wraps(real)
        def wrapped(*args: Any, **keywords: Any) -> Any:
            name = self.name(args[which], keywords.get("dir_fd")) if len(args) > which else None
            if name is None:
                return real(*args, **keywords)
            self.reach(f"before {function} {name}")
            done = real(*args, **keywords)
            self.reach(f"after {function} {name}")
            return done

        setattr(module, function, wrapped)


def install(environment: Mapping[str, str]) -> Points:
    """Put the points into this process; what is wanted stands in the environment."""
    wanted = (environment.get(f"CHAOS_{name}", "") for name in ("RUN", "TRACE", "KILL", "TOKEN"))
    points = Points(*wanted)
    for function, which in (
        ("fsync", 0),
        ("rename", 1),
        ("replace", 1),
        ("pwrite", 0),
        ("link", 1),
        ("mkdir", 0),
        ("unlink", 0),
    ):
        points.wrap(os, function, which)
    points.wrap(os, "rmdir", 0)
    points.wrap(shutil, "copyfile", 1)
    real = sqlite3.connect
    sqlite3.connect = functools.partial(real, factory=_connection(points))  # type: ignore[assignment]
    return points


def _connection(points: Points) -> type[sqlite3.Connection]:
    class Connection(sqlite3.Connection):
        """A connection that passes a point before and after each commit, named by its rows (a note by its key)."""

        kinds: tuple[str, ...] = ()

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if _INSERT.match(sql):
                kind, body = str(args[0][1]), args[0][7]
                self.kinds += (f"note.{next(iter(json.loads(body)), '')}" if kind == "note" else kind,)
                points.reach(f"inside commit {'+'.join(self.kinds)}")
            if not _END.match(sql):
                return super().execute(sql, *args)
            with self._commit():
                return super().execute(sql, *args)

        def __exit__(self, *error: Any) -> Any:
            if not self.in_transaction or error[0] is not None:
                self.kinds = ()
                return super().__exit__(*error)
            with self._commit():
                return super().__exit__(*error)

        def executescript(self, script: str) -> sqlite3.Cursor:
            self.kinds = ("schema",)
            with self._commit():
                return super().executescript(script)

        @contextlib.contextmanager
        def _commit(self) -> Any:
            what, self.kinds = "+".join(self.kinds) or "nothing", ()
            points.reach(f"before commit {what}")
            yield
            points.reach(f"after commit {what}")

    return Connection
