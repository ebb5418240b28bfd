"""Every finding, in the order in which a person would look."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tuner import journal
from tuner.doctor.case import Case, Finding, links
from tuner.doctor.files import (
    examine_best,
    examine_checkpoints,
    examine_orphans,
    examine_predictions,
    examine_provenance,
    examine_sweep,
)
from tuner.doctor.journal import examine_forgery, examine_journal
from tuner.doctor.lease import examine_drivers

# What a few checkpoints and a copy of the journal need.
_LOW_WATER_BYTES = 200_000_000


def examine(folder: Path) -> list[Finding]:
    """Return what is wrong with a run folder, and what is worth knowing; changes nothing.

    Args:
        folder: The run folder; its journal may be damaged or missing.

    Raises:
        RunError: There is no such folder.
    """
    return look(Case.of(folder))


def look(case: Case) -> list[Finding]:
    """Return the findings of a case."""
    forged = [*_examine_links(case)] or [*examine_forgery(case)]
    if forged:
        return forged  # nothing behind a link, and nothing that such a row names, is looked at
    found = [*examine_drivers(case), *examine_journal(case), *examine_sweep(case), *examine_provenance(case)]
    if any(entry.path == journal.FILE_NAME for entry in found):
        return found  # what is left of a damaged journal cannot judge the other files
    return [
        *found,
        *examine_checkpoints(case),
        *examine_best(case),
        *examine_predictions(case),
        *examine_orphans(case),
        *_examine_disk(case),
    ]


def _examine_links(case: Case) -> Iterator[Finding]:
    for relative in links(case.folder):
        what = f"{case.path(relative)}: a symbolic link, which this project never makes in a run folder."
        meaning = "A resume or a repair would write to where it leads."
        yield Finding("error", what, meaning, "Remove the link, or put the file itself in its place.", None, relative)


def _examine_disk(case: Case) -> Iterator[Finding]:
    free = shutil.disk_usage(case.folder).free
    with contextlib.suppress(OSError):
        needed = _LOW_WATER_BYTES + 2 * (case.folder / journal.FILE_NAME).stat().st_size
        if free < needed:
            what = f"{case.folder}: {free / 1e6:.0f} MB are free on its disk."
            meaning = "A resume may soon be unable to commit."
            yield Finding("warning", what, meaning, "Make room, or move the run folder to a larger disk.")
    if not os.access(case.folder, os.W_OK):
        what = f"{case.folder}: this account may not write here."
        yield Finding("note", what, "It can be read, but not resumed or repaired.", "Use an account that may.")
