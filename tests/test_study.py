"""A study: its stages in order, each resumable, and one look at the test split."""

from __future__ import annotations

import json
import signal

import pytest
from conformance_backends import same

import tuner
from trainables import data as trainables_data
from tuner.errors import Interrupted, UsageError
from tuner.run import Watch
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
    with pytest.raises(UsageError, match="--trials: a study is not extended"):
        tuner.resume(untouched.folder, trials=9, backend="inline")


def test_stages_that_are_left_out_are_left_out(tmp_path):
    results = study(make(("search",)), storage=tmp_path, backend="inline")
    assert set(results.trials["stage"]) == {"search"} and not notes(results, "test_opened")
    assert not (results.folder / "final").exists()


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
