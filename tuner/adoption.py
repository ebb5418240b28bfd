"""What a run on a storage URI has beyond the last snapshot of its journal, after the loss of its driver's disk.

A checkpoint's manifest carries every row of its attempt, and the suggestions that no snapshot held when the attempt
began, its own among them. So a checkpoint that was committed is found again, with the epochs that led to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tuner.bodies import decode
from tuner.history import FINISHED, Event, History
from tuner.manifests import MANIFEST_NAME, STATE_NAME

_PATH = re.compile(rf"checkpoints/(t\d+)/(\d+)-(\d+)/{MANIFEST_NAME}", re.ASCII)


class Manifest(NamedTuple):
    """What counts of a checkpoint's manifest at a URI."""

    trial: str
    attempt: int
    epoch: int
    path: str
    sha256: str
    size: int
    start_epoch: int
    rows: dict[int, dict[str, Any]]
    suggestions: list[dict[str, Any]]


def is_manifest(path: str) -> bool:
    """Return whether an object of a run is a checkpoint's manifest."""
    return _PATH.fullmatch(path) is not None


def parse(path: str, data: bytes) -> Manifest | None:
    """Return what a manifest says, or None where it is not one of this project's, whole.

    Args:
        path: Its path in the run.
        data: Its content.
    """
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    try:
        told = json.loads(data)
        manifest = Manifest(
            trial=found[1],
            attempt=int(found[3]),
            epoch=int(found[2]),
            path=path.rpartition("/")[0],
            sha256=hashlib.sha256(data).hexdigest(),
            size=int(told["files"][STATE_NAME]["bytes"]),
            start_epoch=int(told["start_epoch"]),
            rows={int(epoch): decode(text) for epoch, text in told["rows"].items()},
            suggestions=list(told["suggestions"]),
        )
        same = (told["trial"], told["attempt"], told["epoch"]) == (manifest.trial, manifest.attempt, manifest.epoch)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    epochs = range(manifest.start_epoch + 1, manifest.epoch + 1)
    return manifest if same and manifest.attempt > 0 and sorted(manifest.rows) == [*epochs] else None


def adopt(history: History, manifests: list[Manifest]) -> Iterator[Event]:
    """Yield the rows that a journal lacks, in an order in which it takes them.

    What the journal says stands: a trial that has ended is left alone, and so are an attempt before its newest, and one
    that has ended. Of what it does not know, a manifest is believed.

    Args:
        history: What the journal holds.
        manifests: Of all checkpoints there are.
    """
    yield from _suggestions(history, manifests)
    for manifest in sorted(manifests, key=lambda one: (one.trial, one.attempt, one.epoch)):
        record = history.trials.get(manifest.trial)
        if record is None or record.status in FINISHED or manifest.attempt < record.attempts:
            continue
        if manifest.attempt > record.attempts:
            yield Event("attempt", manifest.trial, manifest.attempt, body={"start_epoch": manifest.start_epoch})
        elif record.status != "running":
            continue
        known = [epoch for epoch, row in record.epochs.items() if row.attempt == manifest.attempt]
        for epoch in range(max(known, default=manifest.start_epoch) + 1, manifest.epoch + 1):
            yield Event("epoch", manifest.trial, manifest.attempt, epoch, manifest.rows[epoch])
        kept = {(row.attempt, row.epoch) for row in record.checkpoints}
        if (manifest.attempt, manifest.epoch) not in kept:
            body = {"path": manifest.path, "sha256": manifest.sha256, "bytes": manifest.size}
            yield Event("checkpoint", manifest.trial, manifest.attempt, manifest.epoch, body)


def _suggestions(history: History, manifests: list[Manifest]) -> Iterator[Event]:
    """Yield the suggestions that are not in the journal, in their order and without a gap."""
    told: dict[int, dict[str, Any]] = {}
    for manifest in manifests:
        for body in manifest.suggestions:
            told.setdefault(int(body["number"]), body)
    number = 1 + len(history.trials)
    while number in told:
        body = told[number]
        yield Event("suggestion", str(body["trial"]), body={name: body[name] for name in body if name != "trial"})
        number += 1
