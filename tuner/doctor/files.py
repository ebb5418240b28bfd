"""Findings in the files beside the journal: each against what the journal says."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuner import checkpoints
from tuner.doctor.case import QUARANTINE, Case, Finding, children, digest, inside, is_leftover, is_name, read_json
from tuner.history import FINISHED, CheckpointRecord, TrialRecord, ranking
from tuner.lease_folder import FOLDER_NAME as LEASE_NAME
from tuner.results import Best, from_history
from tuner.spec.text import table
from tuner.strict_json import to_json

_SHOWN = 3  # differing keys of a sweep


def examine_sweep(case: Case) -> Iterator[Finding]:
    """Yield how sweep.toml differs from the journal's first row."""
    recorded = case.history.sweep_toml
    if not recorded:
        return  # examine_journal tells of it
    path = case.folder / "sweep.toml"
    try:
        found = path.read_bytes()
    except OSError as error:
        problem = f"the frozen sweep cannot be read ({error.strerror})"
    else:
        if found == recorded.encode():
            return
        problem = f"the frozen sweep is not the one that the journal began with: {_difference(found, case.tables)}"
    meaning = "A resume would run another sweep than the one that was started."
    remedy = f"`tuner doctor {case.folder} --repair` writes it from the journal; to change a sweep: tuner resume --set."
    yield Finding("error", f"{path}: {problem}.", meaning, remedy, "sweep", "sweep.toml")


def _difference(found: bytes, recorded: Mapping[str, Any]) -> str:
    try:
        tables = tomllib.loads(found.decode())
    except (ValueError, RecursionError) as error:
        return f"it is not TOML ({error})"
    ours, theirs = _flat(tables), _flat(recorded)
    keys = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
    shown = [f"{key} is {ours.get(key)!r} and was {theirs.get(key)!r}" for key in keys[:_SHOWN]]
    return ", ".join([*shown, *(["and more"] if len(keys) > _SHOWN else [])]) or "its text was edited"


def _flat(tables: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tables, Mapping):
        return {prefix: tables}
    return {
        key: item
        for name, inner in tables.items()
        for key, item in _flat(inner, f"{prefix}.{name}" if prefix else name).items()
    }


def examine_provenance(case: Case) -> Iterator[Finding]:
    """Yield what is wrong with provenance.json, and with code/ as it tells of it."""
    path, recorded = case.folder / "provenance.json", case.history.sweep_toml
    entry = read_json(path)
    if not isinstance(entry, dict) or not isinstance(entry.get("code", {}), dict):
        yield _provenance_finding(case, "is missing" if not path.exists() else "is damaged: it is no JSON")
        return
    if recorded and entry.get("sweep_sha256") != hashlib.sha256(recorded.encode()).hexdigest():
        yield _provenance_finding(case, "is of another sweep, or damaged: its sweep_sha256 is not this sweep's")
        return
    yield from _examine_code(case, entry.get("code", {}))


def _provenance_finding(case: Case, problem: str) -> Finding:
    gone = problem == "is missing"
    return Finding(
        "note" if gone else "warning",
        f"{case.path('provenance.json')}: the record of versions, hardware and code {problem}.",
        "No resume needs it, but whether code/ is still what was started can no longer be told.",
        "Put a copy back if you have one."
        + ("" if gone else f" `tuner doctor {case.folder} --repair` puts it into {QUARANTINE}/."),
        None if gone else "quarantine",
        "provenance.json",
    )


def _examine_code(case: Case, hashes: Mapping[str, Any]) -> Iterator[Finding]:
    meaning = "A resume would train with other code than the sweep was started with."
    remedy = "Put the file back as it was. If it is as it was, provenance.json is damaged: put that back."
    for name, sha256 in hashes.items():
        path = inside(case.folder, name)
        if path is None or not name.startswith("code/"):
            what = f"{case.path('provenance.json')}: it names a file outside code/ ({name!r})."
            yield Finding("error", what, "Nothing of this project writes that.", "Do not resume this run.")
        elif (found := digest(path)) != sha256:
            problem = "is missing" if found is None else "has not the SHA-256 that provenance.json has of it"
            yield Finding("error", f"{path}: the sweep's code {problem}.", meaning, remedy, None, name)
    for path in sorted((case.folder / "code").rglob("*.py")):
        name = path.relative_to(case.folder).as_posix()
        if name not in hashes:
            what = f"{path}: provenance.json knows no such file, so it was not frozen with the sweep's code."
            # Never moved by a repair: it may be provenance.json that is damaged, and the sweep needs its code.
            remedy = "Remove it, unless the sweep's code needs it."
            yield Finding("warning", what, "The sweep's code may import it.", remedy, None, name)


def examine_checkpoints(case: Case) -> Iterator[Finding]:
    """Yield damaged checkpoints, and missing ones that a resume or best/ would need."""
    keys = [key for key, entry in case.history.trials.items() if is_name(key)]
    for record in (case.history.trials[key] for key in keys):
        lost = [kept for kept in record.checkpoints if not _is_whole(case, kept)]
        for kept in lost:
            if inside(case.folder, kept.path) and (case.folder / kept.path).exists():
                yield _damaged(case, record, kept)
        newest = record.last_checkpoint()
        if newest in lost and record.status not in FINISHED and not (case.folder / newest.path).exists():
            yield _missing(case, record, newest)
    yield from _examine_best_checkpoint(case)


def _is_whole(case: Case, kept: CheckpointRecord) -> bool:
    try:
        checkpoints.verify(case.folder, kept)
    except (checkpoints.DamagedCheckpoint, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _damaged(case: Case, record: TrialRecord, kept: CheckpointRecord) -> Finding:
    needed = record.status not in FINISHED and kept == record.last_checkpoint()
    meaning = f"No resume will use it; {_instead(case, record)}." if needed else "No resume needs it."
    return Finding(
        "error" if needed else "warning",
        f"{case.path(kept.path)}: the checkpoint of {record.trial}, epoch {kept.epoch}, is damaged.",
        meaning,
        f"`tuner doctor {case.folder} --repair` puts it into {QUARANTINE}/; a copy of your own can take its place.",
        "quarantine",
        kept.path,
    )


def _missing(case: Case, record: TrialRecord, kept: CheckpointRecord) -> Finding:
    aside = any((stamp / kept.path).exists() for stamp in children(case.folder / QUARANTINE))
    return Finding(
        "note" if aside else "warning",
        f"{case.path(kept.path)}: the newest checkpoint of {record.trial} is {'put aside' if aside else 'missing'}.",
        f"{_instead(case, record).capitalize()}.",
        "Put a copy back if you have one; else `tuner resume` does without.",
        path=kept.path,
    )


def _instead(case: Case, record: TrialRecord) -> str:
    whole = [kept.epoch for kept in record.checkpoints if _is_whole(case, kept)]
    return f"its trial goes on from epoch {whole[-1]}" if whole else "its trial starts over"


def _examine_best_checkpoint(case: Case) -> Iterator[Finding]:
    """The model of the best trial is the one checkpoint of the finished that no pruning takes."""
    best = _best(case)
    if best is None or best.repeats > 1 or case.driven:  # a later repeat may have brought back one that was pruned
        return
    for kept in case.history.trials[best.trial].checkpoints:
        gone = inside(case.folder, kept.path) and not (case.folder / kept.path).exists()
        if kept.epoch == best.epoch and gone and not (case.folder / "best/model.pt").is_file():
            what = f"{case.path(kept.path)}: the checkpoint of the best epoch is missing, and so is best/model.pt."
            meaning = "The best config and its metrics are safe in the journal; its trained model is lost."
            remedy = "Put a copy back if you have one, or train the config of `tuner best` again."
            yield Finding("warning", what, meaning, remedy, None, kept.path)


def _best(case: Case) -> Best | None:
    """Return the best config by the journal, or None where there is none, or the journal cannot tell."""
    try:
        results = from_history(case.folder, case.history, case.driven)
        ranked = ranking(results.records(), results.metric, results.mode)
        return results.best() if ranked and math.isfinite(ranked[0].value) else None
    except Exception:  # a journal that is no sweep's: examine_journal tells of it
        return None


def examine_orphans(case: Case) -> Iterator[Finding]:
    """Yield what no row tells of; while a driver is at work, its newest files are ahead of its rows."""
    yield from _leftovers(case)
    if case.driven or not case.events:
        return
    named = {event.body.get("path") for event in case.events if event.kind == "checkpoint"}
    for trial in children(case.folder / "checkpoints"):
        inner = children(trial) if case.known(trial.name) else [trial]
        for path in inner:
            relative = path.relative_to(case.folder).as_posix()
            if relative not in named and not is_leftover(path):
                yield _orphan(case, relative, "checkpoint")
    for folder, suffix in (("logs", ".log"), ("predictions", ".npz")):
        for path in children(case.folder / folder):
            stem = path.name.partition(suffix)[0]
            name = stem.rpartition("-")[0] if folder == "logs" else stem
            if not is_leftover(path) and not case.known(name):
                yield _orphan(case, path.relative_to(case.folder).as_posix(), folder)


def _orphan(case: Case, relative: str, kind: str) -> Finding:
    meaning = {
        "checkpoint": "Its driver was killed before the row, or the row was lost; no resume uses it.",
        "logs": "No trial of this sweep has such a log.",
        "predictions": "No trial of this sweep has made them.",
    }[kind]
    remedy = f"`tuner doctor {case.folder} --repair` puts it into {QUARANTINE}/."
    return Finding("note", f"{case.path(relative)}: no row names it.", meaning, remedy, "quarantine", relative)


def _leftovers(case: Case) -> Iterator[Finding]:
    if case.driven:
        return
    places = [
        case.folder,
        *(case.folder / name for name in ("best", "predictions", "checkpoints", LEASE_NAME, QUARANTINE)),
    ]
    deeper = [path for name in ("checkpoints", "predictions") for path in children(case.folder / name)]
    for place in [*places, *deeper]:
        for path in children(place):
            if is_leftover(path):
                meaning = "A write that was cut short; what it was to replace is untouched."
                remedy = f"`tuner doctor {case.folder} --repair` deletes it."
                relative = path.relative_to(case.folder).as_posix()
                yield Finding("note", f"{path}: a leftover.", meaning, remedy, "leftovers", relative)


def examine_predictions(case: Case) -> Iterator[Finding]:
    """Yield damaged prediction files."""
    files = children(case.folder / "predictions")
    for path in [*files, *(inner for trial in files for inner in children(trial))]:
        if path.suffix == ".npz" and not is_leftover(path) and (problem := _npz_problem(path)):
            meaning = "The trial's metrics are in the journal; only its single predictions are lost."
            remedy = f"`tuner doctor {case.folder} --repair` puts it into {QUARANTINE}/."
            relative = path.relative_to(case.folder).as_posix()
            yield Finding("warning", f"{path}: {problem}.", meaning, remedy, "quarantine", relative)


def _npz_problem(path: Path) -> str | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                arrays[name]  # reads it, and so checks its sum
    except Exception as error:  # a flipped bit can make anything of a file's structure
        return f"the predictions cannot be read ({' '.join(str(error).split())[:120]})"
    return None


def examine_best(case: Case) -> Iterator[Finding]:
    """Yield how best/ differs from the journal; only a driver that ended in peace has written it."""
    best, folder = _best(case), case.folder / "best"
    finished = case.history.finished in ("completed", "failed")
    if best is None or case.driven or not (finished or folder.is_dir()):
        return
    due = _texts(best)
    problems = {name: problem for name, text in due.items() if (problem := _text_problem(folder / name, text))}
    if case.tables.get("data") and read_json(folder / "preprocess.json") is None:
        problems["preprocess.json"] = "is missing or damaged"
    problems |= _model_problems(case, best, folder)
    problems |= _manifest_problems(folder)
    for name, problem in problems.items():
        yield _best_finding(case, f"best/{name}", problem, finished)


def model_is_of_best(case: Case) -> bool:
    """Return whether best/model.pt is whole, and a file beside it says that it is the journal's best epoch's."""
    best, folder = _best(case), case.folder / "best"
    if best is None or not (folder / "model.pt").is_file() or _model_problems(case, best, folder):
        return False
    return _text_problem(folder / "metrics.json", _texts(best)["metrics.json"]) is None


def _texts(best: Best) -> dict[str, str]:
    return {"config.toml": table(best.config), "metrics.json": to_json(dataclasses.asdict(best)) + "\n"}


def _best_finding(case: Case, relative: str, problem: str, finished: bool) -> Finding:
    preprocess = relative == "best/preprocess.json"
    again = f"tuner resume {case.folder} --trials {len(case.history.trials) + 1}"
    return Finding(
        "warning" if finished else "note",
        f"{case.path(relative)}: it {problem}.",
        "The journal has the right best config; best/ is made from it, and nothing is made from best/.",
        f"It is written anew when the sweep ends again: {again}."
        if preprocess
        else f"`tuner doctor {case.folder} --repair` writes best/ anew.",
        None if preprocess else "best",
        relative,
    )


def _text_problem(path: Path, due: str) -> str | None:
    try:
        return None if path.read_bytes() == due.encode() else "differs from what the journal says"
    except OSError:
        return "is missing, or cannot be read"


def _model_problems(case: Case, best: Best, folder: Path) -> dict[str, str]:
    """The sums that a zip file carries tell whether the tensors are as they were written."""
    path = folder / "model.pt"
    kept = [kept for kept in case.history.trials[best.trial].checkpoints if kept.epoch == best.epoch]
    if not path.exists():
        can = any(_is_whole(case, checkpoint) for checkpoint in kept)
        return {"model.pt": "is missing, though its checkpoint is here"} if can else {}
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # a flipped bit can make anything of a zip file's structure
        return {"model.pt": f"is damaged ({error})"}
    return {"model.pt": f"is damaged ({broken})"} if broken else {}


def _manifest_problems(folder: Path) -> dict[str, str]:
    """Compare best/ with the sums in its manifest.json, where it has one."""
    manifest = folder / checkpoints.MANIFEST_NAME
    if not manifest.is_file():
        return {}
    entry = read_json(manifest)
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), dict):
        return {manifest.name: "is damaged"}
    files = {Path(name).name: sums for name, sums in entry["files"].items()}
    return {
        name: "differs from its sum in manifest.json"
        for name, sums in files.items()
        if not isinstance(sums, dict) or digest(folder / name) != sums.get("sha256")
    }
