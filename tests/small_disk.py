"""A disk of a few megabytes that a test may fill: a tmpfs in a mount namespace of a process of our own.

As a program, it is that process: each line on standard input names a function, a place and a size; it mounts a fresh
tmpfs there, calls the function with the place, and answers with what the function returned, or with its traceback.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# An account without rights has them in a user namespace of its own, where the system lets it make one.
_NAMESPACE = ["unshare", "--map-root-user", "--mount"]


class SmallDisk:
    """Runs functions of a test file on disks of their own."""

    def __init__(self, process: subprocess.Popen[str], place: Path) -> None:
        self._process, self._place = process, place

    def __call__(self, function: Callable[[Path], Any], kilobytes: int) -> Any:
        """Call a module's function with a folder on a disk of that size; return what it returned, as JSON has it."""
        file, name = function.__code__.co_filename, function.__name__
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([file, name, str(self._place), kilobytes]), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["value"]


@contextlib.contextmanager
def small_disks(place: Path) -> Iterator[SmallDisk]:
    """Yield what gives tests a small disk; skips them, with the reason, where none can be mounted."""
    if shutil.which("unshare") is None:
        pytest.skip("a small disk needs `unshare` (util-linux)")
    tried = subprocess.run(
        [*_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {tried.stderr.strip()}")
    process = subprocess.Popen(
        [*_NAMESPACE, sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield SmallDisk(process, place)
    finally:
        process.communicate()  # its input's end is its own


def fill(folder: Path, leave: int = 0) -> Path:
    """Write a file that takes all room but `leave` bytes; return it."""
    path = folder / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        room = os.statvfs(folder)
        with contextlib.suppress(OSError):
            os.posix_fallocate(descriptor, 0, max(1, room.f_bavail * room.f_frsize - leave))
    finally:
        os.close(descriptor)
    return path


def remount(folder: Path, how: str) -> None:
    """Mount a small disk's file system again, "ro" or "rw"."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def _call(file: str, name: str, place: Path, kilobytes: int) -> Any:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], check=True)
    try:
        return getattr(_module(file), name)(place)
    finally:
        os.chdir("/")
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _module(file: str) -> Any:
    name = Path(file).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a function prints is no answer
    for line in sys.stdin:
        file, name, place, kilobytes = json.loads(line)
        try:
            answer = {"value": _call(file, name, Path(place), kilobytes)}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
