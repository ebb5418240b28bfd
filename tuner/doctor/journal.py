"""Findings in the journal, its high-water mark and its backup."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tuner import journal
from tuner.backup import FILE_NAME as BACKUP_NAME
from tuner.doctor.case import Case, Finding, is_name
from tuner.history import Event, History
from tuner.salvage import Source, merged, of_one_sweep

_NEEDED = (
    "The journal is the only truth about a sweep; no resume and no frame can be made from a damaged one. "
    "The other files are looked at once it is whole."
)

# What the fold, and all who read it, take for granted.
_NEEDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "sweep": {"toml": str},
    "suggestion": {"number": int, "proposal": int, "stage": str, "repeat": int, "config": dict, "seed": int},
    "attempt": {"start_epoch": int},
    "epoch": {"metrics": dict, "elapsed_s": (int, float)},
    "checkpoint": {"path": str, "sha256": str},
    "end": {"status": str},
}


def examine_journal(case: Case) -> Iterator[Finding]:
    """Yield what is wrong with the journal; each damage of it has the same repair."""
    path = case.folder / journal.FILE_NAME
    with Source(path) as source, Source(case.folder / BACKUP_NAME) as backup:
        damages = list(dict.fromkeys(_damages(case, source)))
        if damages:
            newer = source.version() > journal.SCHEMA_VERSION and backup.version() != journal.SCHEMA_VERSION
            remedy, repair = _prospect(case, source, backup)
            if newer and not backup.error:
                remedy, repair = "A newer version wrote it: update this project.", None
            yield from (
                Finding("error", f"{path}: {damage}.", _NEEDED, remedy, repair, journal.FILE_NAME) for damage in damages
            )
        else:
            yield from _log_note(case)
        yield from _examine_mark(case, source, bool(damages))
        yield from _examine_backup(case, source, backup)


def known_last(folder: Path) -> int:
    """Return the last row that was ever committed, as far as the mark and the file tell."""
    with Source(folder / journal.FILE_NAME) as source:
        return max(journal._mark(folder / journal.FILE_NAME), source.last())


def _damages(case: Case, source: Source) -> Iterator[str]:
    """Yield what is wrong with the file, each as the end of a sentence."""
    if source.error:
        yield f"the journal cannot be opened ({source.error})"
        return
    version, last = source.version(), source.last()
    if version != journal.SCHEMA_VERSION:
        yield f"the journal's schema version must be {journal.SCHEMA_VERSION}, but got ({version})"
    pages = source.ask("PRAGMA integrity_check(3)")
    if pages is None:
        yield f"SQLite finds damaged pages ({source.error})"
    elif pages != [("ok",)]:
        yield f"SQLite finds damaged pages ({'; '.join(str(page[0]) for page in pages)})"
    if source.ask("SELECT type, name, sql FROM sqlite_master ORDER BY name") != _schema():
        yield "its tables are not those of a journal"
    if source.ask("PRAGMA foreign_key_check"):
        yield "rows hang on rows that are not there"
    yield from _row_damages(case, source, last)


def _row_damages(case: Case, source: Source, last: int) -> Iterator[str]:
    valid, wrong = _walk(case)
    mark = journal._mark(source.path)
    if valid < last:
        yield f"row {valid + 1} is missing, or does not match its checksum"
    elif valid < mark:
        yield f"{mark - valid} committed rows are missing (row {mark} was the last, the file ends at row {valid})"
    elif not valid:
        yield "it holds no row, not even the sweep"
    if wrong:
        yield f"row {wrong} hangs on another row than it was committed with"


def _walk(case: Case) -> tuple[int, int]:
    """Return the last of the valid rows, and the first whose parent is not the row it belongs to (0: none)."""
    parents: dict[tuple[str, str, int, int], int] = {}
    valid = wrong = 0
    for event, parent in case.rows:
        valid = event.seq
        kind = journal._PARENT.get(event.kind)
        attempt = 0 if kind == "suggestion" else event.attempt
        due = parents.get((kind, event.trial, attempt, event.epoch if kind == "epoch" else 0)) if kind else None
        if parent != due:
            wrong = wrong or event.seq
        if event.kind in ("suggestion", "attempt", "epoch"):
            parents[event.kind, event.trial, event.attempt, event.epoch] = event.seq
    return valid, wrong


def _schema() -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        made.executescript(journal._SCHEMA)
        return made.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


def _prospect(case: Case, source: Source, backup: Source) -> tuple[str, str | None]:
    """Return what a repair would bring, and the repair."""
    sources = [source, backup] if of_one_sweep(source, backup) else [source]
    rows = sum(1 for _ in merged(sources))
    known = max(journal._mark(source.path), source.last(), rows)
    if not rows:
        anew = f"Without one the sweep is lost: start it anew from {case.path('sweep.toml')}."
        return f"Put a copy of your own in its place. {anew}", None
    if rows == known:
        return f"`tuner doctor {case.folder} --repair` regains all {known} rows.", "journal"
    lost = f"the {known - rows} rows after them are lost, and what they told of is trained again by `tuner resume`"
    return f"`tuner doctor {case.folder} --repair` regains rows 1 to {rows}; {lost}.", "journal"


def examine_forgery(case: Case) -> Iterator[Finding]:
    """Yield the first row that no driver could have written: a checksum tells of damage, not of forgery."""
    history = History()
    for event in case.events:
        strange = _strange(history, event)
        if strange is None:
            continue
        what = f"{case.path(journal.FILE_NAME)}: row {event.seq} ({event.kind}) {strange}."
        meaning = "No driver writes such a row: somebody else has, and may mean harm."
        yield Finding("error", what, meaning, "Do not resume or read this run; ask whoever gave it to you.")
        return


def _strange(history: History, event: Event) -> str | None:
    if event.trial and not is_name(event.trial):
        return f"names a trial ({event.trial!r}) that is no name"
    if event.kind == "checkpoint":
        due = f"checkpoints/{event.trial}/{event.epoch}-{event.attempt}"
        if event.body.get("path") != due:
            return f"names a checkpoint at ({event.body.get('path')!r}), which must be ({due})"
    needed = _NEEDS.get(event.kind, {})
    wrong = [name for name, kind in needed.items() if not isinstance(event.body.get(name), kind)]
    values = event.body["metrics"].values() if event.kind == "epoch" and not wrong else ()
    if wrong or not all(value is None or isinstance(value, int | float) for value in values):
        return f"lacks what its kind must have ({', '.join(wrong) or 'numbers as metrics'})"
    try:
        history.add(event)
    except Exception as error:  # whatever a row without its parts makes of the fold
        return f"lacks what its kind must have ({type(error).__name__}: {error})"
    return None


def _log_note(case: Case) -> Iterator[Finding]:
    log = case.folder / f"{journal.FILE_NAME}-wal"
    with contextlib.suppress(OSError):
        if not case.driven and log.stat().st_size:
            what = f"{log}: the last driver was killed before it could fold its newest rows into the journal."
            meaning = "None are lost: they are in this file, and every reader reads them."
            yield Finding("note", what, meaning, "Copy it along with the journal; the next resume folds it in.")


def _examine_mark(case: Case, source: Source, damaged: bool) -> Iterator[Finding]:
    path = case.folder / journal.MARK_NAME
    if damaged or journal._mark(source.path) or not source.last():
        return
    what = "is damaged" if path.exists() else "is missing"
    meaning = "All rows are here, but the loss of one at the journal's end would go unnoticed."
    remedy = f"`tuner doctor {case.folder} --repair` writes it from the journal."
    yield Finding("warning", f"{path}: the journal's high-water mark {what}.", meaning, remedy, "mark", path.name)


def _examine_backup(case: Case, source: Source, backup: Source) -> Iterator[Finding]:
    if not backup.path.exists():
        return
    last, valid = backup.last(), sum(1 for _ in backup.rows())
    if not of_one_sweep(source, backup):
        problem = "the journal's backup is of another sweep"
    elif backup.error or valid != last or backup.ask("PRAGMA integrity_check(1)") != [("ok",)]:
        problem = f"the journal's backup is damaged (rows 1 to {valid} are whole)"
    else:
        return
    meaning = "Nothing is lost yet, but a damaged journal could not be rebuilt from it."
    remedy = f"`tuner doctor {case.folder} --repair` makes a new one, once the journal is whole."
    yield Finding("warning", f"{backup.path}: {problem}.", meaning, remedy, "backup", BACKUP_NAME)
