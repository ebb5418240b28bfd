"""Findings about who is driving: the file lock of this host, and the newest lease."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tuner.doctor.case import QUARANTINE, Case, Finding, read_json
from tuner.lease import SKEW_S, VALID_S, Standing, boot_id, parse, standing
from tuner.lease_folder import FOLDER_NAME, LeaseFolder
from tuner.results import LOCK_NAME


def examine_drivers(case: Case) -> Iterator[Finding]:
    """Yield who is driving the sweep, whose lease was left behind, and which leases cannot be read."""
    found = standing(LeaseFolder(case.folder))
    if found is not None and found.binds and found.owner is not None:
        yield _elsewhere(case, found)
    elif case.driven and (found is None or not found.binds):
        yield _here(case)
    elif found is not None:
        yield from _left_behind(case, found)
    yield from _unreadable(case)


def _here(case: Case) -> Finding:
    entry = read_json(case.folder / LOCK_NAME)
    owner = "a process"
    with contextlib.suppress(KeyError, TypeError):
        owner = f"process {entry['pid']} on {entry['host']} (since {entry['since']})"
    what = f"{case.path(LOCK_NAME)}: {owner} is driving this sweep."
    meaning = "What it is writing at this moment is not looked at."
    return Finding("note", what, meaning, "Nothing; a repair must wait until it has ended.")


def _elsewhere(case: Case, found: Standing) -> Finding:
    path = LeaseFolder(case.folder).path(found.number)
    what = f"{path}: {found.owner} is driving this sweep from another host."
    if found.left_s > VALID_S + SKEW_S:
        meaning = f"Its lease would end in {found.left_s:.0f} s, though none is longer than {VALID_S:.0f} s."
        remedy = "Set the clocks of both hosts. If that driver is gone, remove the file."
        return Finding("warning", what, meaning, remedy, path=_relative(found.number))
    meaning = f"Its lease ends in {found.left_s:.0f} s unless it is renewed; what it is writing is not looked at."
    remedy = "Nothing; a resume or a repair must wait until it has ended. If its host is lost, wait those seconds."
    return Finding("note", what, meaning, remedy, path=_relative(found.number))


def _left_behind(case: Case, found: Standing) -> Iterator[Finding]:
    owner = found.owner
    if owner is None or owner.expires_at is None or (owner.boot, owner.pid) == (boot_id(), os.getpid()):
        return  # given back, or the lease of this very repair
    what = f"{LeaseFolder(case.folder).path(found.number)}: {owner} never gave its lease back."
    meaning = "It was killed, or its host was lost. What it committed is safe, and nobody is driving this sweep now."
    yield Finding("note", what, meaning, f"Go on with it: tuner resume {case.folder}", path=_relative(found.number))


def _unreadable(case: Case) -> Iterator[Finding]:
    store = LeaseFolder(case.folder)
    for number in sorted(store.numbers()):
        if parse(store.read(number)[0]) is not None:
            continue
        what = f"{store.path(number)}: the lease cannot be read, so whose it is cannot be told."
        meaning = f"Until {VALID_S:.0f} s after it was written, it keeps every driver out; then it means nothing."
        remedy = f"After that, `tuner doctor {case.folder} --repair` puts it into {QUARANTINE}/."
        yield Finding("warning", what, meaning, remedy, "quarantine", _relative(number))


def _relative(number: int) -> str:
    return f"{FOLDER_NAME}/{number}.json"
