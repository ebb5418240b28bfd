"""What literal journal tables fold to: records, what counts of them, and their ranking."""

from __future__ import annotations

import math

import pytest

from tuner.history import CheckpointRecord, Event, fold, ranking


def suggestion(trial="t0001", number=1, **changes):
    body = {
        "number": number,
        "proposal": number,
        "stage": "search",
        "fold": None,
        "repeat": 1,
        "config": {"learning_rate": 0.1},
        "seed": 7,
        "by": "random",
        "why": "random start",
    }
    return Event("suggestion", trial, body={**body, **changes})


def attempt(number, at=0.0, start_epoch=0, trial="t0001"):
    return Event("attempt", trial, number, body={"start_epoch": start_epoch}, at=at)


def epoch(number, loss, at=0.0, elapsed_s=None, attempt=1, trial="t0001", worker="host:1"):
    elapsed_s = float(number) if elapsed_s is None else elapsed_s
    return Event(
        "epoch", trial, attempt, number, {"metrics": {"loss": loss}, "elapsed_s": elapsed_s, "worker": worker}, at
    )


def checkpoint(number, attempt=1, trial="t0001"):
    return Event("checkpoint", trial, attempt, number, {"path": f"{number}-{attempt}", "sha256": "0", "bytes": 9})


def end(status, cause=None, error=None, elapsed_s=None, attempt=1, trial="t0001", at=0.0):
    return Event(
        "end", trial, attempt, 0, {"status": status, "cause": cause, "error": error, "elapsed_s": elapsed_s}, at
    )


def only(*events):
    """Return the one trial that these events make."""
    (record,) = fold([suggestion(), *events]).trials.values()
    return record


# -- the whole sweep ------------------------------------------------------------------------------------------------


def test_nothing_folds_to_nothing():
    history = fold([])
    assert (history.trials, history.sweep_toml, history.started_at, history.finished) == ({}, "", None, None)


def test_the_sweep_and_its_times():
    history = fold([Event("sweep", body={"toml": "x = 1"}, at=5.0), Event("session", at=6.0), Event("note", at=9.0)])
    assert (history.sweep_toml, history.started_at, history.last_at) == ("x = 1", 5.0, 9.0)


def test_trials_stand_in_the_order_of_their_suggestions():
    history = fold([suggestion("t0002", 2), suggestion("t0001", 1)])
    assert [(name, record.number) for name, record in history.trials.items()] == [("t0002", 2), ("t0001", 1)]


def test_a_kind_that_tells_nothing_of_trials_is_passed_over():
    assert only(attempt(1), epoch(1, 0.5), Event("stop", "t0001", 1, 1, {"reason": "weak"})).status == "running"


FINISHED = Event("note", body={"finished": "completed"})


@pytest.mark.parametrize(
    ("events", "finished"),
    [
        ([Event("session")], None),
        ([Event("session"), FINISHED], "completed"),
        ([Event("session"), FINISHED, Event("note", body={"warning": "a checkpoint is damaged"})], "completed"),
        # A finished sweep that is extended, and whose driver is killed then, is not finished.
        ([Event("session"), FINISHED, Event("session")], None),
        ([Event("session"), FINISHED, Event("session"), Event("note", body={"finished": "failed"})], "failed"),
    ],
)
def test_a_sweep_is_finished_as_its_newest_session_said(events, finished):
    assert fold(events).finished == finished


# -- one trial ------------------------------------------------------------------------------------------------------


def test_a_suggestion_is_a_pending_trial():
    record = only()
    assert (record.status, record.attempts, record.epochs, record.started_at, record.worker) == (
        "pending",
        0,
        {},
        None,
        None,
    )
    assert (record.config, record.seed, record.by, record.why) == ({"learning_rate": 0.1}, 7, "random", "random start")


def test_a_trial_from_its_attempt_to_its_end():
    record = only(
        attempt(1, at=100.0),
        epoch(1, 0.5, at=103.0, elapsed_s=2.0),
        checkpoint(1),
        epoch(2, 0.4, at=105.0, elapsed_s=4.0),
        end("completed", elapsed_s=4.5),
    )
    rows = {number: (row.metrics, row.attempt, row.at) for number, row in record.epochs.items()}
    assert rows == {1: ({"loss": 0.5}, 1, 103.0), 2: ({"loss": 0.4}, 1, 105.0)}
    assert record.checkpoints == [CheckpointRecord(1, 1, "1-1", "0")]
    assert (record.status, record.attempts, record.worker) == ("completed", 1, "host:1")
    # It began when its worker did, not when it was queued for one.
    assert (record.started_at, record.duration_s) == (101.0, 4.5)


def test_a_trial_that_fails_before_its_first_report_has_its_cause():
    record = only(attempt(1, at=8.0), end("failed", "config.raised", "ValueError: no", 0.25))
    assert (record.status, record.cause, record.error) == ("failed", "config.raised", "ValueError: no")
    assert (record.epochs, record.started_at, record.duration_s) == ({}, 8.0, 0.25)
    assert record.infrastructure_failures == 0


def test_an_end_without_a_time_keeps_the_last_epochs():
    assert only(attempt(1), epoch(3, 0.5, elapsed_s=7.0), end("interrupted")).duration_s == 7.0


# -- attempts -------------------------------------------------------------------------------------------------------

LOST = end("pending", "infrastructure.worker_lost", "the worker died", elapsed_s=10.0)


def test_what_came_after_the_kept_state_is_dropped_by_a_new_attempt():
    before = [attempt(1), *(event for n in (1, 2, 3) for event in (epoch(n, 0.5), checkpoint(n))), epoch(4, 0.1), LOST]
    assert list(only(*before).epochs) == [1, 2, 3, 4]  # until then, it is all there is
    record = only(*before, attempt(2, start_epoch=2))
    assert list(record.epochs) == [1, 2]
    assert [kept.path for kept in record.checkpoints] == ["1-1", "2-1"]
    assert record.last_checkpoint() == CheckpointRecord(2, 1, "2-1", "0")
    # The epochs run again are the ones that count, each with the attempt that ran it.
    again = only(*before, attempt(2, start_epoch=2), epoch(3, 0.9, attempt=2), checkpoint(3, attempt=2))
    assert {number: (row.attempt, row.metrics["loss"]) for number, row in again.epochs.items()} == {
        1: (1, 0.5),
        2: (1, 0.5),
        3: (2, 0.9),
    }
    assert again.last_checkpoint() == CheckpointRecord(3, 2, "3-2", "0")


def test_an_attempt_from_the_start_drops_everything():
    record = only(attempt(1), epoch(1, 0.5), checkpoint(1), LOST, attempt(2))
    assert (record.epochs, record.checkpoints, record.last_checkpoint()) == ({}, [], None)


def test_a_new_attempt_forgets_the_last_ones_failure():
    record = only(attempt(1), LOST)
    assert (record.status, record.cause, record.infrastructure_failures) == ("pending", "infrastructure.worker_lost", 1)
    record = only(attempt(1), LOST, attempt(2))
    assert (record.status, record.cause, record.error, record.attempts) == ("running", None, None, 2)
    assert record.infrastructure_failures == 1  # but not that there was one


def test_failures_of_the_infrastructure_are_counted_and_interruptions_are_not():
    record = only(attempt(1), LOST, attempt(2), end("interrupted", attempt=2), attempt(3), LOST._replace(attempt=3))
    assert record.infrastructure_failures == 2


def test_time_is_summed_over_attempts_and_the_start_is_the_first_ones():
    record = only(
        attempt(1, at=100.0),
        epoch(1, 0.5, at=103.0, elapsed_s=2.0),
        LOST,  # after 10 s of work
        attempt(2, at=200.0),
        epoch(1, 0.5, at=204.0, elapsed_s=3.0, attempt=2, worker="other:2"),
    )
    assert (record.started_at, record.duration_s, record.worker) == (101.0, 13.0, "other:2")
    ended = only(attempt(1), LOST, attempt(2), epoch(1, 0.5, attempt=2), end("completed", elapsed_s=3.5, attempt=2))
    assert ended.duration_s == 13.5


def test_seconds_an_epoch_are_those_of_the_accepted_epochs_whatever_was_lost():
    first = [attempt(1), *(epoch(n, 0.5, elapsed_s=2.0 * n + 1) for n in (1, 2))]
    assert only(attempt(1)).epoch_s() is None
    assert only(*first, epoch(3, 0.5, elapsed_s=7.0), end("completed", elapsed_s=8.0)).epoch_s() == 7.0 / 3
    # Epoch 3 of the first attempt is dropped; the second starts for 60 s before its first epoch.
    again = [attempt(2, start_epoch=2), epoch(3, 0.5, elapsed_s=62.0, attempt=2)]
    record = only(*first, epoch(3, 0.5, elapsed_s=7.0), LOST, *again, epoch(4, 0.5, elapsed_s=64.0, attempt=2))
    assert record.epoch_s() == record.at_best("epoch_s", "loss", "min") == (3.0 + 2.0 + 2.0) / 3
    # Where all was lost, only the attempt that began anew counts.
    sparse = [attempt(1), epoch(2, 0.5, elapsed_s=3.0), epoch(4, 0.5, elapsed_s=5.0)]
    assert only(*sparse).epoch_s() == (3.0 + 2.0) / 2
    assert only(*first, LOST, attempt(2), epoch(1, 0.5, elapsed_s=4.0, attempt=2)).epoch_s() == 4.0


def test_an_attempt_whose_driver_was_killed_counts_as_far_as_it_reported():
    record = only(
        attempt(1), epoch(1, 0.5, elapsed_s=2.0), attempt(2, start_epoch=1), epoch(2, 0.5, elapsed_s=3.0, attempt=2)
    )
    assert record.duration_s == 5.0


@pytest.mark.parametrize(
    "stale",
    [epoch(3, 0.0), checkpoint(3), end("failed", "config.raised", "too late", 99.0)],
    ids=lambda event: event.kind,
)
def test_what_a_stale_attempt_says_does_not_count(stale):
    events = [attempt(1), epoch(1, 0.5), epoch(2, 0.5), checkpoint(2), attempt(2, start_epoch=2)]
    assert only(*events, stale) == only(*events)


# -- the best epoch -------------------------------------------------------------------------------------------------


def with_losses(*losses):
    return only(attempt(1), *(epoch(number, loss) for number, loss in enumerate(losses, start=1)))


@pytest.mark.parametrize(
    ("losses", "mode", "best"),
    [
        ((0.5, 0.2, 0.9), "min", 2),
        ((0.5, 0.2, 0.9), "max", 3),
        ((0.2, 0.2, 0.2), "min", 1),  # the earliest of equals
        ((0.5, 0.9, 0.9), "max", 2),
        ((None, math.nan, 0.4, math.nan), "min", 3),
        ((math.inf, 0.4), "max", 2),
        ((-math.inf, 0.4), "min", 2),
        ((-0.0, 0.0), "max", 1),
        ((math.nan, None, math.inf), "min", None),
        ((), "min", None),
    ],
)
def test_the_best_epoch_is_the_earliest_of_the_best_finite_ones(losses, mode, best):
    record = with_losses(*losses)
    assert record.best_epoch("loss", mode) == best
    assert record.best_value("loss", mode) == (None if best is None else losses[best - 1])


def test_a_metric_that_nobody_reported_has_no_best_epoch():
    assert with_losses(0.5).best_epoch("accuracy", "max") is None


# -- ranking --------------------------------------------------------------------------------------------------------


def table(*rows):
    """Return records of (number, proposal, status, losses), or of these and more of a suggestion's fields."""
    events = []
    for number, proposal, status, losses, *more in rows:
        trial = f"t{number:04d}"
        events.append(suggestion(trial, number, proposal=proposal, **(more[0] if more else {})))
        events.append(attempt(1, trial=trial))
        events += [epoch(n, loss, trial=trial) for n, loss in enumerate(losses, start=1)]
        if status != "running":
            events.append(end(status, trial=trial))
    return fold(events).trials.values()


def ranked(mode, *rows):
    """Return (trial, value, repeats) a config, best first."""
    return [(entry.trial.number, entry.value, entry.repeats) for entry in ranking(table(*rows), "loss", mode)]


def test_configs_are_ranked_by_their_best_epoch_never_the_last():
    rows = (1, 1, "completed", [0.5, 0.4, 0.9]), (2, 2, "stopped", [0.3, 0.8]), (3, 3, "completed", [0.45])
    assert ranked("min", *rows) == [(2, 0.3, 1), (1, 0.4, 1), (3, 0.45, 1)]
    assert ranked("max", *rows) == [(1, 0.9, 1), (2, 0.8, 1), (3, 0.45, 1)]


@pytest.mark.parametrize("status", ["failed", "interrupted", "pending", "running"])
def test_only_completed_and_stopped_trials_are_ranked(status):
    assert ranked("min", (1, 1, status, [0.0]), (2, 2, "completed", [0.5])) == [(2, 0.5, 1)]
    assert ranked("min", (1, 1, status, [0.0])) == []  # a lone failed trial is not the best


def test_a_trial_without_a_finite_value_is_not_ranked():
    assert ranked("min", (1, 1, "completed", [math.nan, None]), (2, 2, "completed", [9.0])) == [(2, 9.0, 1)]


@pytest.mark.parametrize("stage", ["baseline", "cross_validate", "final"])
def test_only_search_and_refine_are_ranked(stage):
    rows = (1, 1, "completed", [0.1], {"stage": stage}), (2, 2, "completed", [0.5], {"stage": "refine"})
    assert ranked("min", *rows) == [(2, 0.5, 1)]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_tie_goes_to_the_earlier_config(mode):
    assert ranked(mode, (2, 2, "completed", [0.5]), (1, 1, "completed", [0.5])) == [(1, 0.5, 1), (2, 0.5, 1)]


def test_repeats_are_ranked_by_their_mean_and_stand_behind_their_best():
    rows = [
        (1, 1, "completed", [0.5]),
        (2, 1, "completed", [0.25]),
        (3, 2, "completed", [0.3]),
        (4, 2, "stopped", [0.3]),
        (5, 3, "completed", [0.35]),
    ]
    assert ranked("min", *rows) == [(3, 0.3, 2), (5, 0.35, 1), (2, 0.375, 2)]
    assert ranked("max", *rows) == [(1, 0.375, 2), (5, 0.35, 1), (3, 0.3, 2)]


def test_equal_repeats_tie_in_whatever_order_they_came():
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit.
    rows = [
        (number, number % 2, "completed", [loss])
        for number, loss in zip(range(1, 7), [0.1, 0.3, 0.2, 0.2, 0.3, 0.1], strict=True)
    ]
    first, second = ranking(table(*rows), "loss", "min")
    assert first.value == second.value
    assert (first.trial.proposal, second.trial.proposal) == (0, 1)
