"""Put right what can be put right safely: under the driver's lock, within the folder, nothing that counts deleted."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from tuner import journal
from tuner.backup import FILE_NAME as BACKUP_NAME
from tuner.backup import check, copy_journal
from tuner.doctor.case import QUARANTINE, Case, Finding, inside, is_leftover, links, read_json
from tuner.doctor.examine import look
from tuner.doctor.files import model_is_of_best
from tuner.doctor.journal import known_last
from tuner.errors import RunError, UsageError
from tuner.history import History
from tuner.journal import Journal
from tuner.lease import Lease
from tuner.pulling import cache_folder, none_there, pull
from tuner.results import DEFAULT_STORAGE, LOCK_NAME, find_run, from_history
from tuner.run_folder import lock, write_text
from tuner.salvage import Source, merged, of_one_sweep
from tuner.storage import URI_NAME, Remote, is_uri, shown
from tuner.winner import write_best

_SCRATCH = ".journal.repair.writing"
_LOGS = ("-wal", "-shm", "-journal")


def find_folder(run: str | os.PathLike[str], storage: str | os.PathLike[str] = DEFAULT_STORAGE) -> Path:
    """Return a run's folder, also where its journal is gone but something of it is left.

    Raises:
        RunError: There is none.
    """
    if is_uri(run):
        remote = Remote(os.fspath(run))
        folder = cache_folder(remote, "examined")
        shutil.rmtree(folder, ignore_errors=True)
        if not remote.has("sweep.toml"):
            raise none_there(remote)
        pull(remote, folder, lease=True, checked=False)
        (folder / URI_NAME).write_text(remote.uri)
        return folder
    try:
        return find_run(run, storage)
    except RunError:
        for folder in (Path(run), Path(storage) / run):
            if any((folder / name).is_file() for name in (BACKUP_NAME, journal.MARK_NAME, LOCK_NAME)):
                return folder
        raise


def repair(folder: Path) -> list[str]:
    """Put right what can be put right safely.

    Args:
        folder: The run folder.

    Returns:
        What was done, a sentence each.

    Raises:
        RunError: A live driver is at it, a link stands in the folder, or it cannot be written.
        UsageError: It is a copy of a run at a storage URI.
    """
    Case.of(folder)
    if is_uri(uri := shown(folder)):
        raise UsageError(
            f"{uri}: a repair needs a run folder, but this is a URI. Its resume goes on from what is whole of it:"
            f" tuner resume {uri}. Or repair a copy: tuner pull {uri} DIR, then tuner doctor DIR --repair"
        )
    leading = next(links(folder), None)
    if leading is not None:
        raise RunError(
            f"{folder / leading}: a repair follows no symbolic link, but this is one. Remove it, or put the file "
            "itself in its place."
        )
    try:
        with lock(folder) as lease:
            return _Repair(folder, lease).run()
    except OSError as error:
        raise RunError(
            f"{folder}: a repair must be able to write here, but got ({error.strerror or error}). "
            "Check the disk's room and the folder's permissions; what was there is still there."
        ) from error


class _Repair:
    def __init__(self, folder: Path, lease: Lease) -> None:
        self.folder, self.lease = folder, lease
        self.done: list[str] = []
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
        self.aside = f"{QUARANTINE}/{stamp}"

    def run(self) -> list[str]:
        # In this order: each file is judged by the journal, so the journal comes first.
        steps: dict[str, Callable[[Finding], None]] = {
            "leftovers": self._delete,
            "journal": self._rebuild,
            "mark": self._write_mark,
            "backup": self._renew_backup,
            "sweep": self._write_sweep,
            "quarantine": self._put_aside,
            "best": self._write_best,
        }
        findings = self._findings()
        for name, step in steps.items():
            found = {finding.path: finding for finding in findings if finding.repair == name}
            for finding in list(found.values())[: 1 if name == "best" else None]:
                self.lease.check()
                step(finding)
            if found:
                findings = self._findings()  # what a step puts right may bring others to light
        return self.done

    def _findings(self) -> list[Finding]:
        # The lock is this process's own, so nobody is driving.
        return look(Case(self.folder, driven=False))

    def _inside(self, relative: str) -> Path:
        path = inside(self.folder, relative)
        if path is None:
            raise RunError(f"{self.folder}: a repair touches nothing outside, but got ({relative!r}).")
        return path

    def _delete(self, finding: Finding) -> None:
        path = self._inside(finding.path)
        if not is_leftover(path):
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        self.done.append(f"Deleted {path}, a leftover.")

    def _put_aside(self, finding: Finding) -> None:
        path = self._inside(finding.path)
        if not path.exists():
            return
        target = self._place_aside(finding.path)
        path.rename(target)
        _flush(target.parent)
        self.done.append(f"Moved {path} to {target}.")

    def _place_aside(self, relative: str) -> Path:
        target = self._inside(f"{self.aside}/{relative}")
        number = 1
        while target.exists():
            number += 1
            target = self._inside(f"{self.aside}-{number}/{relative}")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _rebuild(self, finding: Finding) -> None:
        """Rebuild the journal of the valid rows in it and in its backup.

        The rebuilt one becomes the backup first: whenever this is cut short, a second repair finds every row again.
        """
        path, backup = self.folder / journal.FILE_NAME, self.folder / BACKUP_NAME
        known = known_last(self.folder)
        rebuilt, from_backup = self._build()
        kept = [self._copy_aside(name) for name in self._journal_files()]
        copy_journal(rebuilt, backup)
        for suffix in _LOGS:  # a log would be played into whatever journal stands beside it
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        last = copy_journal(rebuilt, path)
        shutil.rmtree(rebuilt.parent)
        self._mark(last)
        lost = max(0, known - last)
        told = f"{lost} rows after them are lost" if lost else "none is lost"
        self.done.append(
            f"Rebuilt {path}: rows 1 to {last} ({from_backup} of them out of the backup), {told}. "
            f"The damaged one is in {kept[0].parent if kept else QUARANTINE}."
        )

    def _journal_files(self) -> list[str]:
        names = (journal.FILE_NAME, *(journal.FILE_NAME + suffix for suffix in _LOGS[:1]), journal.MARK_NAME)
        return [name for name in (*names, BACKUP_NAME) if (self.folder / name).is_file()]

    def _copy_aside(self, name: str) -> Path:
        target = self._place_aside(name)
        with (self.folder / name).open("rb") as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        _flush(target.parent)
        return target

    def _build(self) -> tuple[Path, int]:
        """Write a new journal beside the old one; return it, and how many of its rows came out of the backup."""
        scratch = self._inside(_SCRATCH)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        rebuilt = scratch / journal.FILE_NAME
        with Source(self.folder / journal.FILE_NAME) as source, Source(self.folder / BACKUP_NAME) as backup:
            sources = [source, backup] if of_one_sweep(source, backup) else [source]
            rows = list(merged(sources))
            events, from_backup = [event for event, _ in rows], sum(origin is backup for _, origin in rows)
        with contextlib.closing(Journal(rebuilt)) as writer:
            writer.append(*events)
        if check(rebuilt) != len(events):
            raise RunError(f"{rebuilt}: the rebuilt journal is not whole; nothing was changed. Check the disk.")
        return rebuilt, from_backup

    def _write_mark(self, finding: Finding) -> None:
        with Source(self.folder / journal.FILE_NAME) as source:
            self._mark(source.last())
        self.done.append(f"Wrote {self.folder / journal.MARK_NAME} from the journal.")

    def _mark(self, last: int) -> None:
        self._write(journal.MARK_NAME, journal.mark_text(last))

    def _renew_backup(self, finding: Finding) -> None:
        if (self.folder / BACKUP_NAME).exists():
            self._put_aside(finding)
        copy_journal(self.folder / journal.FILE_NAME, self.folder / BACKUP_NAME)
        self.done.append(f"Made a new {self.folder / BACKUP_NAME}.")

    def _write_sweep(self, finding: Finding) -> None:
        """The journal's first row decides; never the other way round."""
        text = self._history().sweep_toml
        if (self.folder / finding.path).exists():
            self._put_aside(finding)
        self._write("sweep.toml", text)
        self.done.append(f"Wrote {self.folder / 'sweep.toml'} from the journal's first row.")

    def _history(self) -> History:
        return Case(self.folder, driven=False).history

    def _write_best(self, finding: Finding) -> None:
        """Write best/ anew; what stands in no row and in no checkpoint is taken from the one that was there."""
        case, folder = Case(self.folder, driven=False), self.folder / "best"
        results = from_history(self.folder, case.history, running=False)
        preprocess = read_json(folder / "preprocess.json")
        model = folder / "model.pt" if model_is_of_best(case) else None
        if folder.exists():
            aside = self._place_aside("best")
            shutil.copytree(folder, aside, symlinks=True)
            model = aside / model.name if model else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a checkpoint is damaged is a finding of its own
            write_best(results, preprocess if isinstance(preprocess, dict) else None)
        if model is not None and not (folder / "model.pt").exists():
            shutil.copyfile(model, folder / "model.pt")  # its checkpoint is gone, so there is no other
        without = "" if (folder / "model.pt").exists() else ", without model.pt: its checkpoint is not there"
        self.done.append(f"Wrote {folder} from the journal{without}.")

    def _write(self, name: str, text: str) -> None:
        path = self._inside(name)
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f".{name}.writing").unlink()  # as it stood there, it might have been a link
        write_text(path, text)
        _flush(self.folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
