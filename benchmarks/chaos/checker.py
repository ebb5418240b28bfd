"""Compares a killed sweep with the untouched one. It imports nothing of the engine.

It reads the trainable's own log of every epoch really executed, the frames as `tuner export` wrote them, and best/.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What a kill may change: who did it, when, how often.
VOLATILE = ("worker", "started_at", "duration_s", "attempts", "reported_at", "epoch_s", "best.epoch_s", "last.epoch_s")
# Notes of a driver's turn, of which a killed sweep has more.
_OF_A_TURN = ("finished", "test_continued")


@dataclass(frozen=True)
class Evidence:
    """What one sweep left behind.

    Args:
        log: The trainable's lines, in order.
        trials: The trials frame's rows.
        epochs: The epochs frame's rows.
        files: Name -> SHA-256 of what is in best/ and final/, of each trial's predictions, and of refine-N.toml.
        kept: (trial, epoch) of every checkpoint folder left on disk, and the names of other things there.
        status: The exit status.
        notes: What the journal's notes say, in order, but for those of a driver's turn.
    """

    log: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    files: dict[str, str]
    kept: list[str]
    status: int
    notes: list[str]


@dataclass
class Verdict:
    """What the comparison found.

    Args:
        figures: Counts by name; all but the re-run epochs must be 0.
        problems: One sentence a thing that is wrong.
    """

    figures: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, figure: str, what: str) -> None:
        """Count one thing that is wrong."""
        self.figures[figure] += 1
        self.problems.append(f"{figure}: {what}")


def gather(run: Path, log: Path, trials: Path, epochs: Path, status: int) -> Evidence:
    """Read what a sweep left behind.

    Args:
        run: Its run folder, of which best/, final/, predictions/, refine-N.toml, the names in checkpoints/, and of the
            journal the notes are read.
        log: The trainable's log.
        trials: The trials frame as JSON.
        epochs: The epochs frame as JSON.
        status: The exit status.
    """
    lines = log.read_text().splitlines() if log.exists() else []
    named = [path for folder in ("best", "final", "predictions") for path in sorted((run / folder).glob("*"))]
    named += sorted(run.glob("refine-*.toml")) + sorted(run.glob(".*.writing/*"))
    files = {path.relative_to(run).as_posix(): _digest(path) for path in named}
    folders = sorted((run / "checkpoints").glob("*/*"))
    kept = sorted(f"{path.parent.name}/{path.name.split('-')[0]}" for path in folders)
    return Evidence(
        [json.loads(line) for line in lines],
        json.loads(trials.read_text()),
        json.loads(epochs.read_text()),
        files,
        kept,
        status,
        _notes(run / "journal.sqlite"),
    )


def _digest(path: Path) -> str:
    """Return a file's SHA-256; of metrics, without how long an epoch took."""
    if path.is_dir():  # of a sweep that did not end: told as a difference, by its name
        return "a folder"
    content = path.read_bytes()
    if path.name == "metrics.json":
        content = re.sub(rb'"epoch_s": [0-9.e-]+', b"", content)
    return hashlib.sha256(content).hexdigest()


def _notes(journal: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT body FROM events WHERE kind = 'note' ORDER BY seq").fetchall()
    return [body for (body,) in rows if not set(_OF_A_TURN) & set(json.loads(body))]


def check(untouched: Evidence, killed: Evidence, kills: int, concurrency: int, *, same: bool) -> Verdict:
    """Compare a killed sweep with the untouched one.

    Args:
        untouched: The sweep that nobody killed.
        killed: The sweep that was killed and resumed.
        kills: How often it was killed.
        concurrency: Trials at a time.
        same: Whether everything must be bit-identical; otherwise only nothing may be lost or doubled.
    """
    verdict = Verdict()
    _conserved(verdict, killed)
    if untouched.log:  # a study's trainable is a built-in one, and keeps none
        _executed(verdict, killed)
    _attempts(verdict, killed, kills, concurrency)
    if len(killed.trials) != len(untouched.trials):
        verdict.add(
            "configs lost", f"{len(killed.trials)} trials where the untouched sweep has {len(untouched.trials)}"
        )
    if same:
        _same(verdict, untouched, killed)
    return verdict


def _conserved(verdict: Verdict, killed: Evidence) -> None:
    """Each number once, without gaps; each (trial, epoch) once, without gaps; every trial over."""
    numbers = [row["number"] for row in killed.trials]
    for number in set(range(1, max(numbers, default=0) + 1)) - set(numbers):
        verdict.add("configs lost", f"trial {number}")
    for number, times in Counter(numbers).items():
        if times > 1:
            verdict.add("configs duplicated", f"trial {number} {times} times")
    for row in killed.trials:
        if row["status"] not in ("completed", "stopped", "failed"):
            verdict.add("unfinished", f"trial {row['number']} is {row['status']}")
        epochs = sorted(entry["epoch"] for entry in killed.epochs if entry["number"] == row["number"])
        expected = list(range(1, (row["epochs"] or 0) + 1))
        for epoch in set(expected) - set(epochs):
            verdict.add("rows lost", f"trial {row['number']} epoch {epoch}")
        for epoch in epochs:
            if epoch not in expected or epochs.count(epoch) > 1:
                verdict.add("rows duplicated", f"trial {row['number']} epoch {epoch}")


def _executed(verdict: Verdict, killed: Evidence) -> None:
    """What the frames say was executed, with this score; and whatever ran twice gave the same twice."""
    ends: dict[tuple[int, int], dict[str, Any]] = {}
    for line in killed.log:
        key = (line["number"], line["epoch"])
        if line["what"] != "end":
            continue
        first = ends.setdefault(key, line)
        if any(first[name] != line[name] for name in ("seed", "config", "score", "state")):
            verdict.add("states differ", f"trial {key[0]} epoch {key[1]}, executed twice")
    for row in killed.epochs:
        line = ends.get((row["number"], row["epoch"]), {})
        if line.get("score") != row["score"]:
            verdict.add(
                "rows invented", f"trial {row['number']} epoch {row['epoch']}: {line.get('score')} was executed"
            )
    for number in {line["number"] for line in killed.log}:
        if len({(line["seed"], line["config"]) for line in killed.log if line["number"] == number}) > 1:
            verdict.add("proposals differ", f"trial {number} ran with several configs or seeds")


def _attempts(verdict: Verdict, killed: Evidence, kills: int, concurrency: int) -> None:
    """At most one epoch again a kill and running trial; every attempt that began is in the frames."""
    for row in killed.trials:
        lines = [line for line in killed.log if line["number"] == row["number"]]
        begins = sum(line["what"] == "begin" for line in lines)
        if begins > row["attempts"]:
            verdict.add(
                "attempts unaccounted", f"trial {row['number']}: {begins} began, {row['attempts']} in the frames"
            )
        if row["attempts"] - 1 > kills:
            verdict.add("attempts unaccounted", f"trial {row['number']}: {row['attempts']} attempts by {kills} kills")
        newest = 0
        for line in lines:
            if line["what"] == "begin":
                again = newest - line["epoch"]
                verdict.figures["epochs run again"] += max(0, again)
                verdict.figures["most run again at once"] = max(verdict.figures["most run again at once"], again)
                if again > 1:
                    verdict.add("too many run again", f"trial {row['number']}: {again} epochs after one kill")
            elif line["what"] == "start":
                newest = max(newest, line["epoch"])
    if verdict.figures["epochs run again"] > kills * concurrency:
        verdict.add("too many run again", f"{verdict.figures['epochs run again']} epochs after {kills} kills")


def _same(verdict: Verdict, untouched: Evidence, killed: Evidence) -> None:
    """Everything but who, when and how often is bit-identical."""
    for figure, key, before, after in (
        ("metrics differ", ("number",), untouched.trials, killed.trials),
        ("metrics differ", ("number", "epoch"), untouched.epochs, killed.epochs),
    ):
        old = {tuple(row[name] for name in key): _stable(row) for row in before}
        new = {tuple(row[name] for name in key): _stable(row) for row in after}
        for place in sorted(old.keys() | new.keys()):
            if place not in new or place not in old:
                verdict.add("rows lost" if place not in new else "rows duplicated", f"{key} {place}")
            elif old[place] != new[place]:
                names = [name for name in old[place] if old[place][name] != new[place].get(name)]
                kind = "proposals differ" if any(name.startswith("config.") for name in names) else figure
                values = "; ".join(f"{name} {old[place][name]!r} -> {new[place].get(name)!r}" for name in names[:3])
                verdict.add(kind, f"{key} {place}: {values}")
    for note in sorted((Counter(untouched.notes) - Counter(killed.notes)).elements()):
        verdict.add("notes lost", note[:120])
    for note in sorted((Counter(killed.notes) - Counter(untouched.notes)).elements()):
        verdict.add("notes duplicated", note[:120])
    if not verdict.problems and untouched.notes != killed.notes:
        verdict.add("notes differ", "they come in another order")
    before, after = _states(untouched), _states(killed)
    for place in sorted(before.keys() & after.keys()):
        if before[place] != after[place]:
            verdict.add("states differ", f"trial, epoch {place}")
    for name in sorted(untouched.files.keys() | killed.files.keys()):
        if untouched.files.get(name) != killed.files.get(name):
            gone = (
                "missing" if name not in killed.files else "left over" if name not in untouched.files else "different"
            )
            verdict.add("files differ", f"{name} is {gone}")
    if untouched.kept != killed.kept:
        more = sorted((Counter(killed.kept) - Counter(untouched.kept)).elements())
        less = sorted((Counter(untouched.kept) - Counter(killed.kept)).elements())
        verdict.add("checkpoints differ", f"left over {more}, missing {less}")
    if untouched.status != killed.status:
        verdict.add("exit status differs", f"{killed.status} instead of {untouched.status}")


def _stable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in VOLATILE}


def _states(evidence: Evidence) -> dict[tuple[int, int], str]:
    ends = (line for line in evidence.log if line["what"] == "end")
    return {(line["number"], line["epoch"]): line["state"] for line in ends}
