import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.coverage import SCENARIOS, Scenario, measure, plant
from tuner.analysis.resampling import select
from tuner.analysis.selection import corrected, wilson
from tuner.history import EpochRecord, TrialRecord, ranking

SMALL = Scenario("small", 12, 4, 200, 0.85, 0.02, 0.5, 0.36, 0.25)


def planted(seed=0, scenario=SMALL):
    predictions, y, truth = plant(scenario, np.random.default_rng(seed))
    return predictions, y, truth


def test_the_interval_covers_and_the_bias_shrinks():
    # benchmarks/coverage.py in small: 100 sets, their seeds fixed; make coverage has the figures.
    figures = [measure(scenario, sets=34, bootstraps=60) for scenario in (SMALL, SCENARIOS[1], SCENARIOS[4])]
    assert np.mean([one["coverage"] for one in figures]) >= 0.93
    assert np.mean([one["coverage_uncorrected"] for one in figures]) < 0.85
    assert abs(np.mean([one["bias"] for one in figures])) < 0.3 * np.mean([one["bias_uncorrected"] for one in figures])


@pytest.mark.parametrize("mode", ["max", "min"])
@given(
    values=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=6),
    sharing=st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_the_selection_is_the_sweeps_own(mode, values, sharing):
    """tuner.history.ranking, which picks what best/ holds, is the reference; small whole numbers make ties."""
    records, first = [], {}
    for t, epochs in enumerate(values):
        proposal = first.setdefault(sharing[t], t)
        record = TrialRecord(f"t{t}", t, proposal, "search", None, 1, {}, 0, "", "", status="completed")
        record.epochs = {
            e: EpochRecord({"metrics": {"m": float(value)}}, 1, 0.0) for e, value in enumerate(epochs, start=1)
        }
        records.append(record)
    best = ranking(records, "m", mode)[0].trial
    models = [(record.trial, epoch) for record in records for epoch in record.epochs]
    row = np.array([[value for epochs in values for value in epochs]], dtype=float)
    configs = {record.trial: record.proposal for record in records}
    assert models[select(row, models, configs, mode)[0]] == (best.trial, best.best_epoch("m", mode))


def test_the_uncorrected_score_is_the_best_one_and_the_corrected_is_lower():
    predictions, y, _ = planted()
    result = corrected(predictions, y, "val_accuracy", "max", bootstraps=200)
    best = max((model.argmax(axis=1) == y).mean() for epochs in predictions.values() for model in epochs.values())
    assert result.uncorrected == pytest.approx(best)
    assert result.low < result.score < result.uncorrected and result.bias == pytest.approx(best - result.score)
    assert result.winner in result.ties and result.n_models == 48 and not result.note
    assert "Wilson" in result.construction and "95 %" in result.construction


def test_the_same_seed_gives_the_same_result_and_the_better_end_is_the_lower_one_of_a_loss():
    predictions, y, _ = planted(1, Scenario("rmse", 8, 3, 150, 0.5, 0.02, 0.3, 0.36, 0.25, "rmse"))
    first, again = (corrected(predictions, y, "rmse", "min", bootstraps=100, seed=5) for _ in range(2))
    assert first == again
    assert first.uncorrected < first.score and first.bias > 0
    # Moved out at the better end only.
    assert first.score - first.low > first.high - first.score


def test_one_model_is_scored_as_it_is():
    predictions, y, _ = planted()
    result = corrected({"t1": {1: predictions["t0000"][1]}}, y, "accuracy", "max", bootstraps=500)
    assert result.score == pytest.approx(result.uncorrected, abs=0.005)
    low, high = wilson(result.score, len(y), 1.959964)
    assert (result.low, result.high) == pytest.approx((low, high), abs=1e-4)
    assert "one model" in result.note and result.ties == (("t1", 1),)


def test_models_that_are_worse_by_far_do_not_tie_and_copies_do():
    rng = np.random.default_rng(0)
    y = np.zeros(300, dtype=int)

    def model(share):
        right = rng.random(300) < share
        return np.stack([right, ~right], axis=1).astype(float)

    good = model(0.9)
    predictions = {"a": {1: model(0.5), 2: good}, "b": {1: good}, "c": {1: model(0.7)}}
    result = corrected(predictions, y, "accuracy", "max", bootstraps=300, cost={"a": 10.0, "b": 5.0, "c": 1.0})
    # The tie between the copies goes to the earlier; the cheaper copy is the cheapest; c is cheap but worse.
    assert result.winner == ("a", 2) and result.ties == (("a", 2), ("b", 1)) and result.cheapest == ("b", 1)


def test_with_repeats_configs_compete_by_their_mean():
    y = np.zeros(100, dtype=int)

    def model(right):
        return np.stack([np.arange(100) < right, np.arange(100) >= right], axis=1).astype(float)

    predictions = {"lucky": {1: model(95)}, "unlucky": {1: model(70)}, "x": {1: model(90)}, "y": {1: model(91)}}
    configs = {"lucky": 1, "unlucky": 1, "x": 2, "y": 2}
    assert corrected(predictions, y, "accuracy", "max", bootstraps=50).winner == ("lucky", 1)
    assert corrected(predictions, y, "accuracy", "max", bootstraps=50, configs=configs).winner == ("y", 1)


def test_without_predictions_nothing_is_corrected():
    result = corrected({}, np.zeros(9, dtype=int), "val_accuracy", "max", scores={"t1": {1: 0.8, 2: 0.9, 3: None}})
    assert (result.winner, result.uncorrected) == (("t1", 2), 0.9)
    assert math.isnan(result.score) and result.note.startswith("not corrected: no validation predictions")


def test_predictions_of_a_part_are_said_to_cover_a_part():
    predictions, y, _ = planted()
    scores = {t: {e: float((p.argmax(axis=1) == y).mean()) for e, p in of.items()} for t, of in predictions.items()}
    whole = corrected(predictions, y, "accuracy", "max", scores=scores, bootstraps=50)
    assert whole.note == ""
    worst = min(set(predictions) - {whole.winner[0]}, key=lambda t: max(scores[t].values()))
    part = corrected({t: p for t, p in predictions.items() if t != worst}, y, "accuracy", "max", scores=scores)
    assert part.winner == whole.winner and part.note.startswith("4 of 48 models")
    without = {t: p for t, p in predictions.items() if t != whole.winner[0]}
    assert "the winner" in corrected(without, y, "accuracy", "max", scores=scores).note


def test_predictions_of_other_samples_are_refused():
    predictions, y, _ = planted()
    scores = {trial: dict.fromkeys(epochs, 0.5) for trial, epochs in predictions.items()}
    assert "do not give the recorded scores" in corrected(predictions, y, "accuracy", "max", scores=scores).note


def constant(n, classes=2):
    return np.tile(np.eye(classes)[0], (n, 1))


@pytest.mark.parametrize(
    ("predictions", "y", "metric", "note"),
    [
        ({"t": {1: constant(1)}}, [0], "accuracy", "1 validation samples"),
        ({"t": {1: constant(0)}}, [], "accuracy", "0 validation samples"),
        ({"t": {1: constant(5)}}, [0] * 5, "my_metric", "no built-in metric"),
        ({"t": {1: constant(5)}}, list("abcab"), "accuracy", "no single number"),
        ({"t": {1: constant(5)}}, [0, 1, math.nan, 0, 1], "rmse", "label is missing"),
        ({"t": {1: constant(5)}}, [0] * 5, "rmse", "not defined for"),
        ({"t": {1: constant(5)}}, [0] * 5, "roc_auc", "no finite score"),
        ({"t": {1: constant(5) * math.nan}}, [0] * 5, "accuracy", "no finite score"),
        ({"t": {1: constant(4)}}, [0] * 5, "accuracy", "another shape"),
        ({"t": {1: constant(5)}}, [0, 1, 2, 0, 1], "accuracy", "fewer classes"),
        ({"t": {}}, [0] * 5, "accuracy", "no validation predictions"),
    ],
)
def test_what_cannot_be_corrected_is_said(predictions, y, metric, note):
    result = corrected(predictions, np.array(y), metric, "max", bootstraps=20)
    assert math.isnan(result.score) and note in result.note and not result.ties


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "loss"])
def test_constant_predictions_and_a_rare_class_give_numbers_all_the_same(metric):
    y = np.array([0] * 10 + [1] * 2)  # many bootstraps miss class 1, inside or outside
    models = {"t1": {1: constant(12), 2: np.full((12, 2), 0.5)}, "t2": {1: constant(12) * math.nan}}
    result = corrected(models, y, metric, "min" if metric == "loss" else "max", bootstraps=100)
    assert result.low <= result.score <= result.high
    assert "12 validation samples" in result.note and "no finite score" in result.note


def test_all_right_is_not_a_certainty():
    models = {"t": {1: constant(100), 2: constant(100)}}
    for metric in ("accuracy", "balanced_accuracy"):
        result = corrected(models, np.zeros(100, dtype=int), metric, "max", bootstraps=50)
        assert (result.score, result.high) == (1.0, 1.0) and result.low == pytest.approx(0.963, abs=1e-3)


@given(seed=st.integers(0, 10**6), trials=st.integers(1, 5), epochs=st.integers(1, 4), n=st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_odd_data_raise_nothing_and_the_ends_are_in_order(seed, trials, epochs, n):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    models = {str(t): {e: rng.dirichlet(np.full(3, 0.2), size=n) for e in range(1, epochs + 1)} for t in range(trials)}
    metric = ["accuracy", "f1", "roc_auc", "balanced_accuracy"][seed % 4]
    result = corrected(models, y, metric, "max", bootstraps=20, seed=seed)
    if math.isnan(result.score):
        assert result.note
    else:
        assert 0 <= result.low <= result.score <= result.high <= 1 and result.winner in result.ties
