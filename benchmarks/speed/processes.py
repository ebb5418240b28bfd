"""Fresh processes, timed from spawn to exit, and what they and their families hold in memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.cli.guard import descendants

REPOSITORY = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
MOST_S = 3600.0
_CLEARED = re.compile(r"RAY_|TUNE_|TUNER_|OMP_|MKL_|OPENBLAS_|PYTHONDONTWRITEBYTECODE$")


class Failed(Exception):
    """A command of the benchmark ended with an error, which is its text."""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder with a short path (names of Ray's sockets end at 107 bytes), and delete it."""
    with tempfile.TemporaryDirectory(prefix="spd-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def environment() -> dict[str, str]:
    """Return the environment without what would change how many threads there are, or how Ray or the tuner works."""
    kept = {name: value for name, value in os.environ.items() if not _CLEARED.match(name)}
    path = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path)}


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a command in a folder, as the first of a session of its own; its output goes to a file there, "log"."""
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip


def finish(process: subprocess.Popen[bytes], folder: Path, most_s: float = MOST_S) -> None:
    """Wait for its end.

    Raises:
        Failed: It ended with an error, or not in time; it is killed then, with its family.
    """
    try:
        status = process.wait(most_s)
    except subprocess.TimeoutExpired as error:
        kill(process)
        raise Failed(str(error)) from error
    except BaseException:
        kill(process)
        raise
    if status:
        said = (folder / "log").read_text(errors="replace")[-3000:]
        raise Failed(f"{' '.join(map(str, process.args))}: exit status {status}\n{said}")  # type: ignore[arg-type]


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that was started here, and all that it started."""
    for pid in [process.pid, *descendants(process.pid)]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def timed(command: Sequence[str], folder: Path) -> float:
    """Return the seconds of a command from spawn to exit."""
    began = time.perf_counter()
    finish(start(command, folder), folder)
    return time.perf_counter() - began


def script(name: str, *arguments: object) -> list[str]:
    """Return the command of a script of peers/."""
    return [sys.executable, str(PEERS / f"{name}.py"), *map(str, arguments)]


def sweep(folder: Path, text: str, name: str = "sweep") -> list[str]:
    """Write a sweep file into a folder; returns the command that runs it, its run folder being `runs/NAME`."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    return [sys.executable, "-m", "tuner.cli", "run", str(path), "--storage", str(folder / "runs"), "--name", name]


def journal(folder: Path, name: str = "sweep") -> Path:
    """Return the journal of a sweep that `sweep` has written."""
    return folder / "runs" / name / "journal.sqlite"


def ask(path: Path, query: str) -> list[Any]:
    """Return a query's rows; none while there is no journal yet."""
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as opened,
    ):
        return opened.execute(query).fetchall()
    return []


def remove(path: Path) -> None:
    """Delete what a run has left, so that disks and caches are alike for the next one."""
    shutil.rmtree(path, ignore_errors=True)


def driver_of(path: Path) -> int | None:
    """Return the process id of the driver that writes a journal; None while there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return int(json.loads(path.with_name("driver.lock").read_text())["pid"])
    return None


def memory(pid: int) -> Mapping[str, int]:
    """Return bytes of a process: "rss", "pss" (shared pages by share) and "uss" (its own); empty once it is gone."""
    with contextlib.suppress(OSError):
        shown = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kb = {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB", shown, re.MULTILINE)}
        if "Pss" in kb:
            uss = kb["Private_Clean"] + kb["Private_Dirty"]
            return {"rss": kb["Rss"] * 1024, "pss": kb["Pss"] * 1024, "uss": uss * 1024}
    return {}


def cpu_s(pid: int) -> float | None:
    """Return the processor seconds of a process; None once it is gone."""
    with contextlib.suppress(OSError):
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    return None


def title(pid: int) -> str:
    """Return a process's command line, as it calls itself."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""
