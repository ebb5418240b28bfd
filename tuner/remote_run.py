"""Runs on a storage URI, as their driver opens them: the mirror on this machine, the lease at the URI."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.adoption import Manifest, is_manifest, parse
from tuner.backup import check
from tuner.errors import RunError
from tuner.journal import FILE_NAME, MARK_NAME, mark_text
from tuner.lease import Lease, boot_id
from tuner.lease_remote import LeaseObjects
from tuner.mirror import Mirror
from tuner.pulling import cache_folder, none_there
from tuner.results import LOCK_NAME
from tuner.run_folder import check_name, locked, taken
from tuner.salvage import row
from tuner.storage import URI_NAME, Remote, unreachable

# A store that does not answer for so long stops a sweep, resumably: nothing may be committed without the lease.
_PATIENCE_S = 180.0
_SWEEP_NAME = "sweep.toml"


@contextlib.contextmanager
def new_run(storage: str, name: str, *, exact: bool) -> Iterator[tuple[Mirror, Lease]]:
    """Become the driver of a new run.

    Args:
        storage: The URI that runs live below.
        name: The run's name.
        exact: Refuse a taken name; otherwise -2, -3, ... is appended.

    Raises:
        RunError: The name is taken or is no file name, or the storage cannot be used.
    """
    check_name(name)
    with unreachable(storage, "must be writable"), contextlib.ExitStack() as stack:
        remote, lease = _claim(Remote(storage), name, exact)
        stack.enter_context(contextlib.closing(lease))
        folder = mirror_folder(remote)
        _set_aside(folder)
        _sign(folder, remote)
        stack.pop_all()
    with lease:
        yield Mirror(folder, remote), lease


def _claim(storage: Remote, name: str, exact: bool) -> tuple[Remote, Lease]:
    for number in itertools.count(1):
        remote = storage / (name if number == 1 else f"{name}-{number}")
        lease = None if remote.has(FILE_NAME) else _claimed(remote)
        if lease is not None:
            return remote, lease
        if exact:
            raise taken(remote)
    raise AssertionError("unreachable: itertools.count never ends")


def _claimed(remote: Remote) -> Lease | None:
    """Return the lease of a run that is nobody's, or None where another driver has just begun it."""
    try:
        lease = _lease(remote)
    except RunError:
        return None
    if not remote.has(FILE_NAME):  # else of another driver, or of one that was killed before its first snapshot
        return lease
    lease.close()
    return None


@contextlib.contextmanager
def open_run(
    uri: str, wait: Callable[[str], None] | None = None
) -> Iterator[tuple[Mirror, Lease, list[Manifest] | None]]:
    """Become the driver of a run that is there.

    Args:
        uri: The run's URI.
        wait: As tuner.lease.Lease has it.

    Yields:
        The mirror; the lease; and every checkpoint's manifest, where the journal is the snapshot and may lack what they
        hold, else None.

    Raises:
        RunError: There is none, another driver is at it, or the storage cannot be used.
    """
    with unreachable(uri, "must be readable and writable"), contextlib.ExitStack() as stack:
        remote = Remote(uri)
        if not remote.has(_SWEEP_NAME):
            raise none_there(remote)
        lease = stack.enter_context(contextlib.closing(_lease(remote, wait)))
        folder = mirror_folder(remote)
        manifests = _manifests(remote) if _renew_mirror(folder, remote) else None
        stack.pop_all()
    with lease:
        yield Mirror(folder, remote), lease, manifests


def mirror_folder(remote: Remote) -> Path:
    """Return the folder on this machine that a driver's run at a URI is carried from."""
    return cache_folder(remote, "runs")


def _lease(remote: Remote, wait: Callable[[str], None] | None = None) -> Lease:
    """Take the mirror's file lock and the run's lease.

    Two containers may share a kernel, but not the mirror: what the lock decides is told by the mirror, too.
    """
    folder = mirror_folder(remote)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    boot = f"{boot_id()} {found.st_dev}:{found.st_ino}"
    store = LeaseObjects(remote)
    return locked(folder, lambda free: Lease(store, remote.uri, free, boot=boot, patience_s=_PATIENCE_S, wait=wait))


def _renew_mirror(folder: Path, remote: Remote) -> bool:
    """Make the mirror hold the newest journal: its own, unless the snapshot has rows that it has not.

    Returns:
        Whether it is the snapshot.

    Raises:
        RunError: There is neither.
    """
    snapshot = folder / ".snapshot.sqlite"
    try:
        remote.download(FILE_NAME, snapshot)
    except FileNotFoundError:
        if row(folder / FILE_NAME) is None:
            raise RunError(
                f"{remote}: its driver was killed before its first snapshot, so there is nothing to go on with. "
                f"Start it again: tuner run SWEEP --storage {remote.uri.rpartition('/')[0]}"
            ) from None
        return False
    theirs = _whole(snapshot)
    if theirs is None:
        if row(folder / FILE_NAME) is not None:  # this one's own is all there is
            return False
        raise RunError(f"{remote}/{FILE_NAME}: the journal is damaged. See: tuner doctor {remote}")
    if row(folder / FILE_NAME, theirs[0]) == theirs:
        snapshot.unlink()
        return False
    _set_aside(folder)  # another host has driven it since: what this one has beyond is no part of it
    snapshot.rename(folder / FILE_NAME)
    (folder / MARK_NAME).write_text(mark_text(theirs[0]))
    for path in remote.entries():
        if path.partition("/")[0] in (_SWEEP_NAME, "provenance.json", "code", "best", "final"):
            remote.download(path, folder / path)
    _sign(folder, remote)
    return True


def _whole(snapshot: Path) -> tuple[int, float, int] | None:
    """Return the last row of a snapshot; None where it is damaged."""
    try:
        check(snapshot)
    except RunError:
        return None
    return row(snapshot)


def _manifests(remote: Remote) -> list[Manifest]:
    found = [parse(path, remote.read(path)) for path in remote.entries("checkpoints") if is_manifest(path)]
    return [manifest for manifest in found if manifest]


def _sign(folder: Path, remote: Remote) -> None:
    (folder / URI_NAME).write_text(remote.uri)


def _set_aside(folder: Path) -> None:
    """Put what an earlier driver has left here out of the way, without deleting it."""
    left = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name != LOCK_NAME]
    if left:
        aside = folder / f".aside-{time.time_ns()}"
        aside.mkdir()
        for path in left:
            path.rename(aside / path.name)
