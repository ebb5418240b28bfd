"""Every finding, in the order in which a person would look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tuner import journal
from tuner.disk import RESERVE, file_system, size
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
    found = file_system(case.folder)
    can = "It can be read, but not resumed or repaired."
    if found.read_only:
        what = f"{case.folder}: its file system ({found.mount}) is read-only."
        yield Finding("note", what, can, "Mount it writable, or resume a copy on another disk.")
    elif found.free < RESERVE:
        what = f"{case.folder}: {size(found.free)} are free on its disk ({found.mount})."
        meaning = f"A resume begins no trial with less than {size(RESERVE)}, so that nothing is cut short."
        yield Finding("warning", what, meaning, "Make room, or move the run folder to a larger disk.")
    if not found.read_only and not os.access(case.folder, os.W_OK):
        yield Finding("note", f"{case.folder}: this account may not write here.", can, "Use an account that may.")
