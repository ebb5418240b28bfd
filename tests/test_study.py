"""A study: its stages in order, each resumable, and one look at the test split."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conformance_backends import same

import tuner
from trainables import data as trainables_data
from tuner import final
from tuner.drive import Watch
from tuner.errors import Interrupted, RunError, UsageError
from tuner.openings import Openings, openings
from tuner.report.findings import Findings
from tuner.storage import Remote
from tuner.study import baseline_config, chosen, last_epoch, noise, race_of, study

SPACE = {"learning_rate": tuner.LogUniform(1e-3, 0.3), "dropout": tuner.Uniform(0, 0.5)}


def make(stages=("baseline", "search", "final"), **more):
    return tuner.Sweep(
        **{
            "trainable": "cnn",
            "data": {"name": "digits", "limit": 200, "folds": 3},
            "space": SPACE,
            "defaults": {"filters": 4, "conv_layers": 1, "dense_units": 8},
            "max_epochs": 2,
            "search": {"strategy": "random", "trials": 2},
            "study": {"stages": stages, "repeats": 2},
        }
        | more
    )


def notes(results, key):
    return [note[key] for note in results.history.notes if key in note]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return study(make(), storage=tmp_path_factory.mktemp("untouched"), backend="inline")


def test_stages_come_in_order_with_their_own_trials(untouched):
    assert list(untouched.trials["stage"]) == ["baseline"] * 2 + ["search"] * 2 + ["final"] * 2
    assert set(untouched.trials["status"]) == {"completed"}
    baseline = untouched.trials[untouched.trials["stage"] == "baseline"]
    # The baseline is one config with a seed a repeat, so that its noise is known.
    assert baseline["seed"].nunique() == 2 and baseline["config.learning_rate"].nunique() == 1
    assert noise(untouched.history, make()) == pytest.approx(baseline["best.val_accuracy"].std())


def test_the_winner_is_trained_on_everything_but_the_test_and_scored_once(untouched):
    final = untouched.trials[untouched.trials["stage"] == "final"]
    # There is no validation split any more, so no metric of one.
    assert final["last.val_accuracy"].isna().all() and final["last.train_accuracy"].notna().all()
    winner = chosen(untouched.history, make())
    assert list(final["epochs"]) == [last_epoch(untouched.history, make(), index) for index in (0, winner)]
    assert notes(untouched, "test_opened") == [1]
    written = json.loads((untouched.folder / "final" / "metrics.json").read_text())
    noted = notes(untouched, "test_scores")[0]
    assert written["test"] == noted["scores"][str(winner)] and written["baseline"] == noted["scores"]["0"]
    assert noted["samples"] == 40 and 0 <= written["test"]["test_accuracy"] <= 1
    assert {path.name for path in (untouched.folder / "final").iterdir()} == {
        "config.toml",
        "metrics.json",
        "model.pt",
        "preprocess.json",
    }


def test_checkpoints_stay_of_the_best_two_and_of_the_final_models(untouched):
    kept = sorted(path.parent.name for path in untouched.folder.glob("checkpoints/*/*"))
    # Those of the baseline and of folds would only fill the disk.
    assert kept == ["t0003", "t0004", "t0005", "t0006"]


def test_the_best_is_of_the_search_alone(untouched):
    assert untouched.history.trials[untouched.best().trial].stage == "search"


@pytest.mark.parametrize("stage", ["baseline", "search", "final"])
def test_a_study_that_is_interrupted_in_any_stage_ends_as_if_it_had_not_been(untouched, tmp_path, stage):
    trial = untouched.trials.set_index("stage")["trial"].groupby(level=0).last()[stage]

    def strike(event):
        if (event.kind, event.trial, event.epoch) == ("epoch", trial, 1):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="tuner resume"):
        study(make(), storage=tmp_path, backend="inline", watch=Watch(on_event=strike))
    resumed = tuner.resume(tmp_path / "cnn", backend="inline")
    assert same(untouched, resumed)
    assert notes(resumed, "test_scores") == notes(untouched, "test_scores")
    assert notes(resumed, "test_opened") == [1]


def test_a_study_that_is_over_is_returned_as_it_is_and_not_extended(untouched):
    before = len(untouched.history.notes)
    assert len(tuner.resume(untouched.folder, backend="inline").history.notes) == before
    with pytest.raises(UsageError, match=r"search\.trials: a study that is over is neither changed nor extended"):
        tuner.resume(untouched.folder, trials=9, backend="inline")


# -- the test split ----------------------------------------------------------------------------------------------------


def strike_at(key):
    """Return hooks that end a study by SIGTERM at its first note of a key."""

    def strike(event):
        if event.kind == "note" and key in event.body:
            signal.raise_signal(signal.SIGTERM)

    return Watch(on_event=strike)


@pytest.fixture
def finished(untouched, tmp_path):
    """A finished study's folder, to be spoilt."""
    return Path(shutil.copytree(untouched.folder, tmp_path / "finished"))


def test_a_second_opening_needs_the_users_word_and_is_counted(untouched, finished):
    tuner.resume(finished, backend="inline")
    again = tuner.resume(finished, backend="inline", again=True)
    # A plain resume opens nothing; the same models on the same samples score the same.
    assert notes(again, "test_opened") == [1, 2] and not notes(again, "test_continued")
    assert notes(again, "test_scores") == 2 * notes(untouched, "test_scores")
    assert same(untouched, again)
    assert Findings(again).openings == 2 and openings(again.history.notes) == Openings(2, True, True)


def test_an_opening_that_was_killed_before_any_score_is_taken_up_again_and_stays_one(untouched, tmp_path):
    with pytest.raises(Interrupted):
        study(make(), storage=tmp_path, backend="inline", watch=strike_at("test_opened"))
    killed = tuner.load(tmp_path / "cnn")
    assert notes(killed, "test_opened") == [1] and not notes(killed, "test_scores")
    # It is not over, so there is nothing to be opened *again*.
    with pytest.raises(UsageError, match=r"--again: .* but this one has not: tuner resume"):
        tuner.resume(killed.folder, backend="inline", again=True)
    resumed = tuner.resume(killed.folder, backend="inline")
    # The journal tells both: one opening, and that it was read in two goes.
    assert notes(resumed, "test_opened") == [1] and notes(resumed, "test_continued") == [1]
    assert notes(resumed, "test_scores") == notes(untouched, "test_scores")
    assert Findings(resumed).openings == 1


def test_a_second_opening_that_was_killed_goes_on_without_a_third(finished):
    with pytest.raises(Interrupted):
        tuner.resume(finished, backend="inline", again=True, watch=strike_at("test_opened"))
    resumed = tuner.resume(finished, backend="inline")
    assert notes(resumed, "test_opened") == [1, 2] and notes(resumed, "test_continued") == [2]
    assert len(notes(resumed, "test_scores")) == 2


def test_a_study_killed_after_its_scores_still_writes_final(untouched, tmp_path):
    with pytest.raises(Interrupted):
        study(make(), storage=tmp_path, backend="inline", watch=strike_at("test_scores"))
    assert not (tmp_path / "cnn" / "final").exists()
    resumed = tuner.resume(tmp_path / "cnn", backend="inline")
    assert notes(resumed, "test_opened") == [1] and not notes(resumed, "test_continued")
    for path in (untouched.folder / "final").iterdir():
        assert (resumed.folder / "final" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_damaged_final_model_is_told_before_the_test_split_is_opened(finished):
    for model in finished.glob("checkpoints/t0006/*/state.pt"):
        model.write_bytes(b"damaged")
    with pytest.raises(RunError, match="t0006, a final model, cannot be scored"):
        tuner.resume(finished, backend="inline", again=True)
    assert notes(tuner.load(finished), "test_opened") == [1]


def test_a_winner_whose_final_training_failed_is_not_replaced_by_the_baseline(finished):
    history = tuner.load(finished).history
    record = history.trials["t0006"]
    record.status, record.cause = "failed", "config.raised"
    said = []
    drive = SimpleNamespace(
        plan=SimpleNamespace(sweep=make()), folder=finished, note=lambda history, body: said.append(body)
    )
    final.score_winner(drive, history, None, record.proposal)
    # Nothing but a warning: no opening, no scores.
    assert ["t0006 is failed" in note["warning"] for note in said] == [True]


def test_a_difference_that_cannot_be_had_is_null_with_a_reason():
    split = trainables_data.load({"name": "wine"}, 0).val
    sure = np.tile(np.array([[0.5, 0.3, 0.2]]), (len(split), 1))
    for winner, predictions, metric, why in [
        (0, {0: sure}, "val_accuracy", "the winner is the baseline"),
        (3, {3: sure}, "val_accuracy", "no final model of the baseline"),
        (3, {0: sure, 3: sure * np.nan}, "val_loss", "not finite|not defined"),
    ]:
        told = final._difference(predictions, winner, split, make(metric=metric))
        assert told["difference"] is told["low"] is told["high"] is None and re.search(why, told["note"]), told
        json.dumps(told, allow_nan=False)
    told = final._difference({0: sure, 3: sure}, 3, split, make(metric="val_loss"))
    assert told["difference"] == 0 and told["low"] is None and "does not vary" in told["note"]


def test_a_search_that_finds_nothing_better_than_the_baseline_says_so(tmp_path):
    points = [{"learning_rate": 0.1, "dropout": 0.1}]
    defaults = {**points[0], "filters": 4, "conv_layers": 1, "dense_units": 8}
    sweep = make(defaults=defaults, search={"strategy": "manual", "points": points})
    results = study(sweep, storage=tmp_path, backend="inline")
    assert list(results.trials["stage"]) == ["baseline", "baseline", "search", "final"]
    told = json.loads((results.folder / "final" / "metrics.json").read_text())
    # One model, scored once; no difference, and why.
    assert notes(results, "test_opened") == [1] and told["test"] == told["baseline"]
    assert told["difference"]["difference"] is None and "the winner is the baseline" in told["difference"]["note"]


def test_only_a_study_opens_a_test_split(tmp_path):
    tuner.run(make(study={}), storage=tmp_path, name="sweep", backend="inline")
    with pytest.raises(UsageError, match=r"--again: it opens .* but this is a sweep without one"):
        tuner.resume(tmp_path / "sweep", backend="inline", again=True)


@pytest.mark.parametrize("change", ["data.test_fraction=0.3", "sweep.seed=5", "search.trials=5"])
def test_a_study_at_its_last_stages_keeps_its_splits_and_its_search(finished, tmp_path, change):
    def strike(event):
        if (event.kind, event.trial) == ("attempt", "t0005"):  # the first of the final stage
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        study(make(), storage=tmp_path, name="killed", backend="inline", watch=Watch(on_event=strike))
    with pytest.raises(UsageError, match=f"{change.partition('=')[0]}: a study.*Start another"):
        tuner.resume(tmp_path / "killed", overrides=[change], backend="inline")


def test_a_study_may_be_extended_while_its_search_is_at_work(tmp_path):
    def strike(event):
        if (event.kind, event.trial) == ("attempt", "t0004"):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        study(make(), storage=tmp_path, backend="inline", watch=Watch(on_event=strike))
    resumed = tuner.resume(tmp_path / "cnn", trials=3, backend="inline")
    assert list(resumed.trials["stage"]) == ["baseline"] * 2 + ["search"] * 3 + ["final"] * 2


def test_a_search_that_time_ended_does_not_go_on_once_a_later_stage_has_begun(tmp_path):
    """Its next configs would have the numbers that the round of refinement has used."""

    def slow(event):
        if event.kind == "epoch":
            time.sleep(1.1)
        if (event.kind, event.trial, event.epoch) == ("attempt", "t0002", 0):
            signal.raise_signal(signal.SIGTERM)

    space = {"x": tuner.Uniform(0, 1)}
    more = {"data": None, "metric": "score", "mode": "max", "space": space, "defaults": {}, "max_epochs": 1}
    sweep = make(
        trainable=quadratic,
        search={"strategy": "random", "trials": 50},
        study={"stages": ("search", "refine"), "refine_trials": 2},
        resources={"time_budget_s": 1.0},
        **more,
    )
    with pytest.raises(Interrupted):
        study(sweep, storage=tmp_path, name="short", backend="inline", watch=Watch(on_event=slow))
    resumed = tuner.resume(tmp_path / "short", trainable=quadratic, backend="inline")
    assert list(resumed.trials["stage"])[:2] == ["search", "refine"]
    assert "search" not in set(resumed.trials["stage"][1:])


def test_stages_that_are_left_out_are_left_out(tmp_path):
    results = study(make(("search",)), storage=tmp_path, backend="inline")
    assert set(results.trials["stage"]) == {"search"} and not notes(results, "test_opened")
    assert not (results.folder / "final").exists()


def test_models_that_are_too_large_are_not_trained(tmp_path):
    sweep = make(
        space={"filters": tuner.Choice([2, 4]), "dropout": tuner.Choice([0.0, 0.1])},
        search={"strategy": "grid"},
        constraints=["params < 500", "epoch_s < 1_000"],
    )
    results = tuner.run(sweep, storage=tmp_path, name="small", backend="inline")
    trials = results.trials.set_index("config.filters")
    assert set(trials.loc[4, "status"]) == {"failed"} and set(trials.loc[4, "cause"]) == {"config.shape"}
    assert set(trials.loc[4, "error"]) == {"params must be < 500 (sweep.constraints), but got (654)."}
    assert set(trials.loc[4, "epochs"]) == {0} and set(trials.loc[2, "feasible"]) == {True}
    assert set(trials["best.params"]) == {376, 654} and results.best().config["filters"] == 2
    # What ranked the trials cannot be changed afterwards.
    with pytest.raises(UsageError, match=r"sweep.constraints: a sweep keeps those that it was started with"):
        tuner.resume(tmp_path / "small", overrides=["sweep.constraints=[]"], backend="inline")


def test_a_study_with_several_objectives(tmp_path):
    sweep = make(
        ("search", "refine", "final"),
        space={"filters": tuner.Choice([2, 4]), "learning_rate": tuner.LogUniform(1e-3, 0.3)},
        search={"strategy": "auto", "trials": 5},
        objectives={"params": "min", "epoch_s": "min"},
    )
    results = study(sweep, storage=tmp_path, name="traded", backend="inline")
    trials = results.trials[results.trials["stage"].isin(["search", "refine"])]
    assert set(trials["status"]) == {"completed"} and len(trials) == 9
    assert set(trials["best.params"]) <= {376, 654} and trials["best.epoch_s"].notna().all()
    front = results.pareto()
    assert sorted(one.ranked.trial.trial for one in front) == list(trials[trials["pareto"].astype(bool)]["trial"])
    assert front[0].values["val_accuracy"] == results.best().value
    with pytest.raises(UsageError, match=r"sweep.objectives: a sweep keeps those that it was started with"):
        tuner.resume(tmp_path / "traded", overrides=["sweep.objectives={params = 'min'}"], backend="inline")


def test_a_baseline_that_breaks_a_constraint_is_compared_with_and_never_wins(tmp_path):
    """It has twice the filters of the configs that are searched."""
    sweep = make(
        ("baseline", "search", "cross_validate", "final"),
        space=SPACE | {"filters": tuner.Choice([2])},
        constraints=["params < 500"],
    )
    results = study(sweep, storage=tmp_path, backend="inline")
    trials = results.trials
    assert list(trials[trials["stage"] == "baseline"]["feasible"]) == [False, False]
    assert set(trials["status"]) == {"completed"}
    assert set(notes(results, "cross_validate")[0]["configs"]) == {"1", "2"}
    assert chosen(results.history, sweep) in (1, 2) and results.retrained().config["filters"] == 2
    # Both are trained anew and tested, so that the difference is told.
    assert set(trials[trials["stage"] == "final"]["config.filters"]) == {2, 4}


def test_the_best_are_cross_validated_on_folds_of_their_own_with_common_seeds(tmp_path):
    sweep = make(("search", "cross_validate", "final"))
    results = study(sweep, storage=tmp_path, backend="inline")
    blocks = results.trials[results.trials["stage"] == "cross_validate"]
    # Two of the search and the baseline, three folds each, unless one was dropped; all with the search's first seed.
    assert set(blocks["fold"]) == {0, 1, 2} and blocks["seed"].nunique() == 1
    assert blocks.groupby("config.learning_rate").size().max() == 3 and blocks["config.learning_rate"].nunique() == 3
    assert set(blocks["status"]) == {"completed"}
    # Everything outside the test split is in one fold's validation: 160 samples.
    data = [trainables_data.load(sweep.data.model_dump(), sweep.seed, fold=fold) for fold in range(3)]
    assert sum(len(one.val) for one in data) == 160
    winner = chosen(results.history, sweep)
    race = race_of(sweep, {1, 2, 0}, 3, results.history)
    assert race.verdict in ("tie", "separated") and str(winner) in race.alive
    # No stage but search and refine has a say in the best config.
    assert results.history.trials[results.best().trial].stage == "search"


def test_a_budget_ends_the_cross_validation(tmp_path):
    sweep = make(("search", "cross_validate"), study={"stages": ("search", "cross_validate"), "cv_trials": 4})
    trials = study(sweep, storage=tmp_path, backend="inline").trials
    assert list(trials["stage"]).count("cross_validate") == 4


def test_a_refined_round_is_a_space_of_its_own_that_can_be_reviewed_and_run(tmp_path):
    def strike(event):
        if (event.kind, event.trial) == ("attempt", "t0012"):  # the first of the round
            signal.raise_signal(signal.SIGINT)

    search = {"strategy": "random", "trials": 11}
    more = {"max_epochs": 1, "study": {"stages": ("search", "refine"), "refine_trials": 2}, "search": search}
    sweep = make(("search", "refine"), **more)
    untouched = study(sweep, storage=tmp_path, backend="inline")
    refined = untouched.trials[untouched.trials["stage"] == "refine"]
    note = notes(untouched, "refine")[0]
    assert len(refined) == 2 and note["after"] == 11
    # The file is a sweep as any other, and says at its head what changed and why.
    again = tuner.load_sweep(untouched.folder / "refine-1.toml")
    assert again.space == tuner.Space.parse(note["space"]) and again.search.trials == 2
    head = (untouched.folder / "refine-1.toml").read_text().split("[sweep]")[0]
    assert all(f"{entry['before']} -> {entry['after']}: {entry['why']}" in head for entry in note["changes"])
    for row in refined.to_dict("records"):
        assert again.space.contains({name: row[f"config.{name}"] for name in again.space.names()})
    # Killed in the round, it goes on in the same space, which is not made again.
    with pytest.raises(Interrupted):
        study(sweep, storage=tmp_path, name="killed", backend="inline", watch=Watch(on_event=strike))
    resumed = tuner.resume(tmp_path / "killed", backend="inline")
    assert same(untouched, resumed) and notes(resumed, "refine") == [note]


def quadratic(config, trial):
    for epoch in range(1, trial.max_epochs + 1):
        trial.report(epoch=epoch, score=-((config["x"] - 0.3) ** 2))


def test_a_function_of_ones_own_has_a_baseline_where_it_has_defaults_and_no_test(tmp_path):
    sweep = make(
        trainable=quadratic, data=None, metric="score", mode="max", space={"x": tuner.Uniform(0, 1)}, defaults={}
    )
    assert baseline_config(sweep) == {}
    results = study(sweep, storage=tmp_path, backend="inline")
    assert set(results.trials["stage"]) == {"search"} and results.status == "completed"


def test_a_study_at_a_uri_whose_driver_loses_its_disk_ends_as_if_it_had_not(untouched, s3):
    trial = untouched.trials.set_index("stage")["trial"].groupby(level=0).last()["final"]

    def strike(event):
        if (event.kind, event.trial, event.epoch) == ("epoch", trial, 1):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match=f"tuner resume {s3}/cnn"):
        study(make(), storage=s3, backend="inline", watch=Watch(on_event=strike))
    shutil.rmtree(os.environ["TUNER_CACHE"])
    resumed = tuner.resume(f"{s3}/cnn", backend="inline")
    assert same(untouched, resumed)
    assert notes(resumed, "test_scores") == notes(untouched, "test_scores")
    assert notes(resumed, "test_opened") == [1]
    assert {"final/model.pt", "best/model.pt"} <= set(Remote(f"{s3}/cnn").entries())
