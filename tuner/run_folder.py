"""A run folder's making: its name, its lock, the frozen sweep, the user's code."""

from __future__ import annotations

import ast
import contextlib
import datetime
import fcntl
import itertools
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tuner.errors import RunError
from tuner.journal import FILE_NAME, MARK_NAME, has_rows
from tuner.lease import Lease
from tuner.lease_folder import FOLDER_NAME as LEASE_NAME
from tuner.lease_folder import LeaseFolder
from tuner.results import LOCK_NAME, is_driven

# Half a second in all.
_LOCK_TRIES, _LOCK_PAUSE_S = 10, 0.05
# The engine's own packages; a user's file beside them does not bring them along.
OURS = ("tuner", "trainables")


def make_run_folder(storage: Path, name: str, *, exact: bool) -> Path:
    """Create and return a new run folder.

    Args:
        storage: Where runs live; created if missing.
        name: The run's name.
        exact: Refuse a taken name; otherwise -2, -3, ... is appended.

    Raises:
        RunError: The name is taken or is no file name, or the storage cannot be written.

    An empty folder is not taken, nor is one that a driver left before its first row: see lock_new.
    """
    check_name(name)
    try:
        storage.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            folder = storage / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()  # atomic: two drivers cannot make the same one
            except FileExistsError:
                if exact and _is_husk(folder):
                    return folder
                if exact:
                    raise taken(folder) from None
            else:
                return folder
    except OSError as error:
        raise RunError(
            f"{storage}: runs must be writable here, but got ({error.strerror}). Choose another --storage."
        ) from error
    raise AssertionError("unreachable: itertools.count never ends")


def check_name(name: str) -> None:
    """Refuse what cannot be a run's name.

    Raises:
        RunError: It is no file name, or means something else.
    """
    if not re.fullmatch(r"[\w][\w.+-]*", name) or name == "latest":
        raise RunError(
            f"--name: a run's name must be letters, digits and . _ + -, and not latest, but got ({name}). "
            "Choose such a name."
        )


def taken(folder: object) -> RunError:
    """Return what says that a run's name is taken."""
    return RunError(f"{folder}: the name is taken. Choose another --name, or go on with it: tuner resume {folder}")


def check_free(folder: Path) -> None:
    """Refuse a run folder that make_run_folder would refuse; nothing is made.

    Raises:
        RunError: The name is taken.
    """
    if folder.exists() and not _is_husk(folder):
        raise taken(folder)


def _is_husk(folder: Path) -> bool:
    """Return whether a driver made this folder and was killed before its first row."""
    return _holds_nothing(folder) and not is_driven(folder)


def _holds_nothing(folder: Path) -> bool:
    """Return whether nothing in a folder counts: it is empty, or a driver has begun to fill it, without a row yet."""
    known = (LOCK_NAME, LEASE_NAME, "code", "sweep.toml", "provenance.json", FILE_NAME, MARK_NAME)
    if not folder.is_dir():
        return False
    inside = [path.name for path in folder.iterdir()]
    ours = LOCK_NAME in inside and all(name in known or name.startswith((f"{FILE_NAME}-", ".")) for name in inside)
    return not inside or (ours and not has_rows(folder / FILE_NAME))


def lock_new(folder: Path) -> Lease:
    """Become the driver of a folder of make_run_folder's.

    Raises:
        RunError: As lock(); also where another driver has used the folder since, and is gone again.
    """
    lease = lock(folder)
    if _holds_nothing(folder):
        return lease
    lease.close()
    raise taken(folder)


def lock(folder: Path, wait: Callable[[str], None] | None = None) -> Lease:
    """Become the run folder's driver: its file lock keeps out this host's others, its lease those of other hosts.

    The kernel frees the lock when this process ends, however it ends; the lease of one that was killed ends by itself.

    Args:
        folder: The run folder.
        wait: As tuner.lease.Lease has it.

    Returns:
        The lease; closing it gives back both.

    Raises:
        RunError: A live driver holds one of them; the sentence names its host, process id and start.
    """
    return locked(folder, lambda free: Lease(LeaseFolder(folder), folder, free, wait=wait))


def locked(folder: Path, lease: Callable[[Callable[[], None]], Lease]) -> Lease:
    """Take a folder's file lock, then a lease.

    Args:
        folder: The run folder on this machine.
        lease: Makes the lease; it is given what frees the lock.

    Raises:
        RunError: A live driver holds one of them; the sentence names its host, process id and start.
    """
    try:
        # Never through a link: what it leads to would be truncated.
        file = open(folder / LOCK_NAME, "a+", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o644))  # noqa: SIM115
        with contextlib.ExitStack() as opened:
            opened.callback(file.close)
            if _flock(file):
                held = lease(file.close)
                opened.pop_all()
                _sign(file)
                return held
            file.seek(0)
            owner = _owner(file.read())
    except OSError as error:
        raise RunError(
            f"{folder}: a driver must be able to lock its run folder, but got ({error.strerror}). "
            "Choose a --storage that this account may write, on a disk that has locks."
        ) from error
    raise RunError(f"{folder}: only one driver may run a sweep, but {owner} is at it. Wait for it, or stop it.")


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    json.dump({"host": platform.node(), "pid": os.getpid(), "since": since}, file)
    file.flush()


def _flock(file: IO[str]) -> bool:
    """Take the lock, with some patience: a command that asks whether a driver is there holds it for a moment."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return False


def _owner(text: str) -> str:
    try:
        entry = json.loads(text)
        return f"process {entry['pid']} on {entry['host']} (since {entry['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.writing")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(path)
    except BaseException:  # what is half there must not keep a full disk full
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def freeze_code(file: Path, folder: Path) -> Path:
    """Copy a user's trainable file, and what it imports from its own folder, to code/.

    Args:
        file: The trainable's file.
        folder: The run folder.

    Returns:
        The copy of `file`.
    """
    file = file.resolve()
    root = file.parent
    for source in local_imports(file):
        target = folder / "code" / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return folder / "code" / file.name


def local_imports(file: Path) -> list[Path]:
    """Return the file and every file below its folder that it imports, directly or not."""
    root = file.parent
    found: dict[Path, None] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for name in _imported_names(path, root):
            waiting.extend(_files_of(root, name))
    return list(found)


def _imported_names(path: Path, root: Path) -> Iterator[str]:
    package = ".".join(path.relative_to(root).parent.parts)
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            base = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names)


def _parsed(path: Path) -> ast.Module:
    """Return a file's syntax tree; an empty one where Python cannot read it: importing it is what will tell."""
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _files_of(root: Path, module: str) -> Iterator[Path]:
    parts = module.split(".") if module else []
    if parts[:1] and parts[0] in OURS:
        return
    for depth in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:depth])
        yield from (path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file())
