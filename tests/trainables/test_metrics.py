from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from trainables import metrics

ROOT = Path(__file__).parents[2]
MACRO = {"average": "macro", "zero_division": 0}
CLOSE = {"abs": 1e-6, "rel": 1e-6}
QUIET = settings(deadline=None, derandomize=True, max_examples=60)


def case(seed, samples, classes, present=None):
    """Random probabilities, with ties among them, and labels of the classes that are present."""
    rng = np.random.default_rng(seed)
    y = rng.choice(present if present is not None else classes, size=samples).astype(np.int64)
    logits = rng.normal(size=(samples, classes)).round(1)
    logits[np.arange(samples), y] += rng.uniform(0, 2)
    return metrics.softmax(logits), y


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_classification_agrees_with_scikit_learn(seed, classes):
    p, y = case(seed, samples=60, classes=classes)
    predicted, kept = p.astype(np.float32).argmax(axis=1), p.astype(np.float32)
    expected = {
        "loss": sk.log_loss(y, p, labels=range(classes)),
        "accuracy": sk.accuracy_score(y, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
        "precision": sk.precision_score(y, predicted, **MACRO),
        "recall": sk.recall_score(y, predicted, **MACRO),
        "f1": sk.f1_score(y, predicted, **MACRO),
        "roc_auc": np.mean([sk.roc_auc_score(y == k, kept[:, k]) for k in range(classes)]),
    }
    assert metrics.classification(p, y) == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("seed", range(8))
def test_missing_classes_are_counted_as_scikit_learn_counts_them(seed):
    # Classes 3 and 4 are never true, but are predicted now and then; some classes may be neither.
    p, y = case(seed, samples=12, classes=5, present=[0, 1, 2])
    predicted = p.astype(np.float32).argmax(axis=1)
    ours = metrics.classification(p, y)
    assert ours["precision"] == pytest.approx(sk.precision_score(y, predicted, **MACRO), **CLOSE)
    assert ours["recall"] == pytest.approx(sk.recall_score(y, predicted, **MACRO), **CLOSE)
    assert ours["f1"] == pytest.approx(sk.f1_score(y, predicted, **MACRO), **CLOSE)
    of_present = sk.recall_score(y, predicted, labels=np.unique(y), **MACRO)
    assert ours["balanced_accuracy"] == pytest.approx(of_present, **CLOSE)
    areas = [sk.roc_auc_score(y == k, p[:, k].astype(np.float32)) for k in np.unique(y)]
    assert ours["roc_auc"] == pytest.approx(np.mean(areas), **CLOSE)


def test_a_split_of_one_class_has_no_roc_auc():
    p, _ = case(0, samples=5, classes=3)
    ours = metrics.classification(p, np.zeros(5, np.int64))
    assert ours["roc_auc"] is None
    assert all(isinstance(ours[name], float) for name in set(ours) - {"roc_auc"})


@pytest.mark.parametrize("y", [[0], [2]])
def test_a_single_sample_is_no_exception(y):
    p = metrics.softmax(np.array([[3.0, 0.0, 0.0]]))
    assert metrics.classification(p, np.array(y))["accuracy"] == float(y == [0])


def test_a_wrong_certainty_has_a_large_but_finite_loss():
    p = metrics.softmax(np.array([[0.0, 5000.0]]))
    assert metrics.classification(p, np.array([0]))["loss"] == pytest.approx(708, abs=1)


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf])
def test_predictions_that_are_not_finite_make_every_metric_nan(logit):
    p = metrics.softmax(np.array([[0.0, 1.0], [logit, 0.0]]))
    assert all(math.isnan(value) for value in metrics.classification(p, np.array([0, 1])).values())
    values = metrics.regression(np.array([logit, 1.0]), np.array([1.0, 2.0]))
    assert all(math.isnan(value) for value in values.values())


def test_an_empty_split_has_no_metrics():
    nothing = np.zeros(0, np.int64)
    assert set(metrics.classification(np.zeros((0, 3)), nothing).values()) == {None}
    assert set(metrics.regression(np.zeros(0), np.zeros(0)).values()) == {None}


@pytest.mark.parametrize("seed", range(8))
def test_regression_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    y = (rng.normal(size=40) * 1e5).astype(np.float32)
    values = (y + rng.normal(size=40) * 3e4).astype(np.float32)
    truth, guess = y.astype(np.float64), values.astype(np.float64)
    expected = {
        "loss": sk.mean_squared_error(truth, guess),
        "rmse": sk.root_mean_squared_error(truth, guess),
        "mae": sk.mean_absolute_error(truth, guess),
        "r2": sk.r2_score(truth, guess),
    }
    assert metrics.regression(values, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("y", [[5.0], [5.0, 5.0, 5.0]])
def test_r2_is_not_defined_for_a_constant_target(y):
    ours = metrics.regression(np.ones(len(y)), np.array(y))
    assert ours["r2"] is None and ours["rmse"] == 4.0


# Any split, however small or one-sided

SPLITS = {
    "seed": st.integers(0, 10**6),
    "samples": st.integers(1, 12),
    "classes": st.integers(1, 5),
    "present": st.integers(1, 5),
}


@QUIET
@given(**SPLITS)
def test_any_split_of_classes_agrees_with_scikit_learn(seed, samples, classes, present):
    p, y = case(seed, samples, classes, present=range(min(present, classes)))
    kept = p.astype(np.float32)
    predicted, ours = kept.argmax(axis=1), metrics.classification(p, y)
    for name in ("precision", "recall", "f1"):
        theirs = getattr(sk, f"{name}_score")(y, predicted, **MACRO)
        assert ours[name] == pytest.approx(theirs, **CLOSE), name
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(y, predicted), **CLOSE)
    of_present = sk.recall_score(y, predicted, labels=np.unique(y), **MACRO)
    assert ours["balanced_accuracy"] == pytest.approx(of_present, **CLOSE)
    expected = [sk.roc_auc_score(y == k, kept[:, k]) for k in np.unique(y)] if len(np.unique(y)) > 1 else []
    assert ours["roc_auc"] == (pytest.approx(np.mean(expected), **CLOSE) if expected else None)
    if classes > 1:  # scikit-learn has no loss of one class
        assert ours["loss"] == pytest.approx(sk.log_loss(y, p, labels=range(classes)), **CLOSE)


@QUIET
@given(**SPLITS)
def test_each_class_agrees_with_scikit_learn(seed, samples, classes, present):
    p, y = case(seed, samples, classes, present=range(min(present, classes)))
    kept = p.astype(np.float32)
    predicted, rows = kept.argmax(axis=1), metrics.per_class(p, y)
    theirs = sk.precision_recall_fscore_support(y, predicted, labels=range(classes), zero_division=0)
    for k, row in enumerate(rows):
        occurs = k in y or k in predicted
        for place, name in enumerate(("precision", "recall", "f1")):
            assert row[name] == (pytest.approx(theirs[place][k], **CLOSE) if occurs else None)
        both = 0 < (y == k).sum() < len(y)
        assert row["roc_auc"] == (pytest.approx(sk.roc_auc_score(y == k, kept[:, k]), **CLOSE) if both else None)
    # One definition: the mean over the classes is the figure of the split.
    whole = metrics.classification(p, y)
    for name in metrics.PER_CLASS:
        known = [row[name] for row in rows if row[name] is not None]
        assert whole[name] == (pytest.approx(np.mean(known), **CLOSE) if known else None)


def test_saved_predictions_give_the_metrics_that_were_reported():
    p, y = case(0, samples=50, classes=4)
    saved = p.astype(np.float32)
    assert metrics.classification(saved, y) == pytest.approx(metrics.classification(p, y), **CLOSE)
    assert metrics.per_class(saved, y) == metrics.per_class(p, y)


def test_each_class_of_an_empty_or_broken_split_has_no_figures():
    nothing = metrics.per_class(np.zeros((0, 2)), np.zeros(0, np.int64))
    assert nothing == [dict.fromkeys(metrics.PER_CLASS)] * 2
    broken = metrics.per_class(np.array([[np.nan, 1.0]]), np.array([0]))
    assert all(math.isnan(value) for row in broken for value in row.values())
    assert metrics.log_loss(np.zeros((0, 2)), np.zeros(0, np.int64)) is None
    assert math.isnan(metrics.log_loss(np.array([[np.inf, 1.0]]), np.array([0])))


@QUIET
@given(
    pairs=st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2), min_size=2, max_size=12).filter(
        lambda pairs: max(y for y, _ in pairs) - min(y for y, _ in pairs) > 1
    )
)
def test_any_split_of_values_agrees_with_scikit_learn(pairs):
    y, values = np.array(pairs, np.float32).T
    truth, guess = y.astype(np.float64), values.astype(np.float64)
    expected = {
        "loss": sk.mean_squared_error(truth, guess),
        "rmse": sk.root_mean_squared_error(truth, guess),
        "mae": sk.mean_absolute_error(truth, guess),
        "r2": sk.r2_score(truth, guess),
    }
    assert metrics.regression(values, y) == pytest.approx(expected, **CLOSE)


def test_a_constant_target_is_one_whatever_its_mean_rounds_to():
    # 0.1 three times has a mean above 0.1.
    assert metrics.regression(np.array([0.1, 0.2, 0.3]), np.full(3, 0.1))["r2"] is None


def test_errors_beyond_float64_are_infinite():
    ours = metrics.regression(np.array([1e300, 0.0]), np.array([0.0, 1.0]))
    assert ours["rmse"] == math.inf and ours["mae"] == 5e299


def test_they_need_neither_torch_nor_pandas():
    code = "import sys; import trainables.metrics; print({'torch', 'pandas', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
