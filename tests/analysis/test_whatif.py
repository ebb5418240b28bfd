"""Curves replayed under other stopping rules: literal tables."""

from __future__ import annotations

import random

import pytest

from tuner.analysis.whatif import Stop, what_if
from tuner.constraints import read
from tuner.history import EpochRecord, TrialRecord
from tuner.stopping import Asha, Median, Plateau, Target


def trial(number, values, status="completed", start=0.0, stage="search", proposal=None, repeat=1):
    """A trial that reported these values, one a second from `start` on."""
    epochs = {e: EpochRecord({"metrics": {"score": value}}, 1, start + e) for e, value in enumerate(values, 1)}
    name = f"t{number:04d}"
    record = TrialRecord(name, number, proposal or number, stage, None, repeat, {}, 0, "random", "", status)
    record.epochs = epochs
    return record


def asked(records, *rules, mode="max", max_epochs=4):
    return what_if(records, rules, "score", mode, max_epochs)


HALVING = Asha(unjudged=0, grace_epochs=1, reduction=2)


def test_the_worse_half_is_stopped_in_the_order_of_the_reports():
    # t0001 reports each epoch first, when nothing is there to compare with: it goes on, though it is the worst.
    records = [
        trial(1, [0.1, 0.2, 0.3, 0.4]),
        trial(2, [0.5, 0.6, 0.7, 0.8], start=0.1),
        trial(3, [0.2] * 4, start=0.2),
    ]
    told = asked(records, HALVING)
    assert [(stop.trial, stop.epoch) for stop in told.stops] == [("t0003", 1)]
    assert (told.trials, told.epochs, told.saved) == (3, 12, 3)
    assert told.same_winner and told.winner == "t0002" and told.value == told.value_after == 0.8


def test_in_another_order_another_trial_is_stopped():
    early = [trial(1, [0.1, 0.2, 0.3, 0.4]), trial(2, [0.5] * 4, start=10)]
    late = [trial(1, [0.1, 0.2, 0.3, 0.4], start=10), trial(2, [0.5] * 4)]
    assert asked(early, HALVING).stops == ()
    (stop,) = asked(late, HALVING).stops
    assert stop == Stop("t0001", 1, 4, "asha: rank 2 of 2 at epoch 1, where the best 1 go on")


def test_a_late_starter_that_is_stopped_costs_the_winner():
    records = [trial(1, [0.5, 0.6, 0.6, 0.6]), trial(2, [0.1, 0.2, 0.7, 0.9], start=0.5)]
    told = asked(records, HALVING)
    assert (told.winner, told.winner_after, told.same_winner) == ("t0002", "t0001", False)
    assert (told.value, told.value_after) == (0.9, 0.6)


def test_a_stopped_trial_that_leads_by_its_kept_epochs_is_still_worth_its_whole_curve():
    records = [trial(1, [0.8, 0.7, 0.7, 0.85]), trial(2, [0.1, 0.1, 0.1, 0.2], start=0.5)]
    told = asked(records, Plateau(patience=1, grace_epochs=1))
    assert [stop.trial for stop in told.stops] == ["t0001", "t0002"]
    assert told.same_winner and told.value_after == told.value == 0.85


def test_curves_that_were_cut_short_are_counted_and_change_nothing():
    whole = [trial(1, [0.1] * 4, start=9), trial(2, [0.2] * 4, start=8)]
    short = [
        trial(3, [0.9, 0.9], "stopped"),
        trial(4, [0.9], "failed"),
        trial(5, [], "failed"),
        trial(6, [0.9], "interrupted"),
        trial(7, [], "pending"),
        trial(8, [0.95] * 4, stage="baseline"),
    ]
    told, alone = asked(whole + short, HALVING), asked(whole, HALVING)
    assert told.left_out == {"stopped": 1, "failed": 2, "interrupted": 1}
    assert (told.stops, told.saved, told.trials, told.winner) == (alone.stops, alone.saved, 2, "t0002")
    # The sweep's own best is named, so that nobody takes t0002 for it.
    assert told.best == "t0003"


def test_what_is_to_be_minimised_is():
    records = [trial(1, [0.1] * 4), trial(2, [0.9] * 4, start=0.5)]
    assert [stop.trial for stop in asked(records, HALVING, mode="min").stops] == ["t0002"]


def test_the_last_epoch_is_never_cut():
    records = [trial(1, [0.5] * 4), trial(2, [0.1] * 4, start=0.5)]
    assert asked(records, Plateau(patience=1, grace_epochs=3)).stops == ()
    assert asked(records, Asha(grace_epochs=4)).stops == ()


def test_a_target_is_reached_only_by_what_meets_the_constraints():
    records = [trial(1, [0.5, 0.95, 0.95, 0.95]), trial(2, [0.1, 0.2, 0.9, 0.9], start=0.5)]
    reach = Target(value=0.9).for_mode("max")
    assert {stop.trial: stop.epoch for stop in asked(records, reach).stops} == {"t0001": 2, "t0002": 2}
    for record, latency in zip(records, (100.0, 4.0), strict=True):
        record.constraints = read(["latency < 5"])
        for row in record.epochs.values():
            row.metrics["latency"] = latency
    assert {stop.trial: stop.epoch for stop in asked(records, reach).stops} == {"t0002": 3}


def test_a_rule_is_not_asked_at_the_last_epoch_as_in_a_sweep():
    class Always:
        feasible_only = False

        def decide(self, curves, trial, epoch, max_epochs):
            return "always"

    assert asked([trial(1, [0.5])], Always(), max_epochs=1).stops == ()
    (stop,) = asked([trial(1, [0.5, 0.6])], Always(), max_epochs=2).stops
    assert stop.epoch == 1


def test_repeats_are_one_config():
    records = [
        trial(1, [0.5, 0.9], proposal=1),
        trial(2, [0.4, 0.7], proposal=1, repeat=2, start=0.2),
        trial(3, [0.6, 0.6], proposal=2, start=0.3),
        trial(4, [0.6, 0.6], proposal=2, repeat=2, start=0.4),
    ]
    told = asked(records, HALVING, max_epochs=2)
    assert [stop.trial for stop in told.stops] == ["t0002"]
    assert told.value == pytest.approx(0.8) and told.winner == "t0001"
    # (0.9 + 0.4) / 2 still beats 0.6.
    assert told.same_winner


def test_nothing_to_replay_and_values_that_are_none():
    nothing = asked([], HALVING)
    assert (nothing.trials, nothing.saved, nothing.winner, nothing.same_winner) == (0, 0, None, None)
    told = asked([trial(1, [None, None, float("nan"), None]), trial(2, [None] * 4, start=1)], HALVING, Median())
    assert told.winner is None and told.best is None


def test_it_decides_as_a_sweep_did(tmp_path):
    # A real sweep without a rule, and the same one with it: inline, trials one after another, the same configs.
    import tuner

    def train(config, trial):
        for epoch in range(1, 10):
            trial.report(epoch=epoch, score=config["x"] + epoch * config["slope"])

    def swept(rules, options):
        draw = random.Random(1)
        points = [{"x": draw.random(), "slope": draw.random() / 9} for _ in range(14)]
        sweep = tuner.Sweep(
            trainable=train,
            metric="score",
            mode="max",
            max_epochs=9,
            search={"strategy": "manual", "points": points, "trials": 14},
            stopping={"rules": rules, **options},
        )
        return tuner.run(sweep, storage=tmp_path, backend="inline")

    free, ruled = swept([], {}), swept(["asha"], {"asha": {"grace_epochs": 2, "unjudged": 0}})
    told = what_if(free.records(), [Asha(grace_epochs=2, unjudged=0)], "score", "max", 9)
    stopped = {record.trial: len(record.epochs) for record in ruled.records() if record.status == "stopped"}
    assert stopped == {stop.trial: stop.epoch for stop in told.stops} and len(stopped) > 2
    assert told.saved == 14 * 9 - sum(len(record.epochs) for record in ruled.records())
    assert told.winner_after == ruled.best().trial
