from __future__ import annotations

import json

import pytest

from tuner.adoption import adopt, is_manifest, parse
from tuner.bodies import encode
from tuner.history import Event, fold


def suggestion(number, **more):
    body = {"number": number, "proposal": number, "stage": "search", "fold": None, "repeat": 1, "config": {"x": number}}
    return {**body, "seed": 1, "by": "random", "why": "", **more}


def row(value):
    return {"metrics": {"score": value}, "elapsed_s": 1.0, "worker": "node:1"}


def manifest(trial, attempt, epoch, start_epoch=0, suggestions=(), changes=None):
    told = {
        "trial": trial,
        "attempt": attempt,
        "epoch": epoch,
        "files": {"state.pt": {"sha256": "", "bytes": 7}},
        "start_epoch": start_epoch,
        "rows": {str(number): encode(row(number / 10)) for number in range(start_epoch + 1, epoch + 1)},
        "suggestions": [{"trial": f"t{one['number']:04d}", **one} for one in suggestions],
    }
    return parse(f"checkpoints/{trial}/{epoch}-{attempt}/manifest.json", json.dumps(told | (changes or {})).encode())


def known(*events):
    return fold([Event("sweep", body={"toml": "x"}), *events])


def adopted(history, *manifests):
    rows = []
    for event in adopt(history, list(manifests)):
        history.add(event)
        rows.append((event.kind, event.trial, event.attempt, event.epoch))
    return rows


def begun(number, attempt=1, epochs=0, start_epoch=0):
    trial = f"t{number:04d}"
    rows = [Event("epoch", trial, attempt, epoch, row(epoch / 10)) for epoch in range(1, epochs + 1)]
    return [
        Event("suggestion", trial, body=suggestion(number)),
        Event("attempt", trial, attempt, body={"start_epoch": start_epoch}),
        *rows,
    ]


def test_epochs_beyond_the_snapshot_come_back_with_their_checkpoint():
    history = known(*begun(1, epochs=1))
    assert adopted(history, manifest("t0001", 1, 3)) == [
        ("epoch", "t0001", 1, 2),
        ("epoch", "t0001", 1, 3),
        ("checkpoint", "t0001", 1, 3),
    ]
    assert history.trials["t0001"].epochs[3].metrics == {"score": 0.3}


def test_a_trial_that_no_snapshot_knows_comes_back_with_those_suggested_before_it():
    history = known(*begun(1))
    rows = adopted(history, manifest("t0003", 1, 1, suggestions=[suggestion(2), suggestion(3)]))
    assert rows[:3] == [("suggestion", "t0002", 0, 0), ("suggestion", "t0003", 0, 0), ("attempt", "t0003", 1, 0)]
    assert rows[3:] == [("epoch", "t0003", 1, 1), ("checkpoint", "t0003", 1, 1)]
    assert history.trials["t0002"].status == "pending" and history.trials["t0003"].config == {"x": 3}


def test_attempts_follow_one_another():
    history = known(*begun(1, epochs=1))
    rows = adopted(history, manifest("t0001", 2, 4, start_epoch=2), manifest("t0001", 1, 2))
    assert rows == [
        ("epoch", "t0001", 1, 2),
        ("checkpoint", "t0001", 1, 2),
        ("attempt", "t0001", 2, 0),
        ("epoch", "t0001", 2, 3),
        ("epoch", "t0001", 2, 4),
        ("checkpoint", "t0001", 2, 4),
    ]
    assert [*history.trials["t0001"].epochs] == [1, 2, 3, 4]


def test_what_the_journal_says_stands():
    ended = Event("end", "t0001", 1, body={"status": "completed", "cause": None, "error": None})
    assert adopted(known(*begun(1, epochs=1), ended), manifest("t0001", 1, 3)) == []
    newer = known(*begun(1, attempt=2))
    assert adopted(newer, manifest("t0001", 1, 3)) == []
    # A trial whose suggestion is nowhere cannot be one of this sweep's.
    assert adopted(known(*begun(1)), manifest("t0009", 1, 1)) == []
    assert adopted(known(*begun(1, epochs=2)), manifest("t0001", 1, 2)) == [("checkpoint", "t0001", 1, 2)]


@pytest.mark.parametrize(
    "changes",
    [{"trial": "t0002"}, {"epoch": 4}, {"rows": {}}, {"rows": {"1": "{"}}, {"files": {}}, {"suggestions": None}],
)
def test_a_manifest_that_contradicts_itself_is_none(changes):
    assert manifest("t0001", 1, 3) and manifest("t0001", 1, 3, changes=changes) is None


def test_only_manifests_are_manifests():
    assert is_manifest("checkpoints/t0001/1-1/manifest.json")
    assert not is_manifest("checkpoints/t0001/../1-1/manifest.json")
    assert parse("checkpoints/t0001/1-1/manifest.json", b"no JSON") is None
