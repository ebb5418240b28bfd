import numpy as np
import pytest
import sklearn.metrics as sk

from trainables import metrics as own
from tuner.analysis.weighted import CLASSIFICATION, REGRESSION, weighted_scores


def case(seed, n=60, classes=4, models=3, ties=False):
    """Return probabilities (models, n, classes), labels and weightings of which one is all ones."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), size=(models, n))
    if ties:
        probabilities = np.round(probabilities * 4) + 1
        probabilities /= probabilities.sum(axis=2, keepdims=True)
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=4)]).astype(float)
    return probabilities, rng.integers(0, classes, n), weights


def repeated(weights):
    """Return the sample that multiplicities stand for."""
    return np.repeat(np.arange(len(weights)), weights.astype(int))


@pytest.mark.parametrize("metric", [*CLASSIFICATION, "loss"])
@pytest.mark.parametrize(("seed", "n", "classes"), [(0, 60, 4), (1, 8, 5), (2, 40, 2), (3, 3, 3)])
def test_a_weighting_gives_what_the_trainables_give_for_the_repeated_sample(metric, seed, n, classes):
    probabilities, y, weights = case(seed, n, classes, ties=seed == 0)
    scores = weighted_scores(metric, probabilities, y, weights)
    for b, row in enumerate(weights):
        taken = repeated(row)
        for e, model in enumerate(probabilities):
            expected = own.classification(model[taken], y[taken])[metric]
            assert scores[b, e] == pytest.approx(np.nan if expected is None else expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("metric", [*REGRESSION, "loss"])
def test_values_too(metric):
    rng = np.random.default_rng(4)
    y = 1e4 + rng.standard_normal(30)  # far from 0: the variance must keep its digits
    values = y + rng.standard_normal((3, 30))
    weights = np.vstack([np.ones(30), rng.multinomial(30, np.full(30, 1 / 30), size=4)]).astype(float)
    scores = weighted_scores(metric, values, y, weights)
    for b, row in enumerate(weights):
        taken = repeated(row)
        assert scores[b] == pytest.approx([own.regression(model[taken], y[taken])[metric] for model in values])


def test_scikit_learn_agrees_for_weights_that_are_no_counts():
    probabilities, y, _ = case(7)
    weight = np.random.default_rng(7).uniform(0.1, 3, len(y))
    model, calls = probabilities[0], probabilities[0].argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(y, calls, sample_weight=weight),
        "balanced_accuracy": sk.balanced_accuracy_score(y, calls, sample_weight=weight),
        "f1": sk.f1_score(y, calls, average="macro", sample_weight=weight),
        "loss": sk.log_loss(y, model, sample_weight=weight),
        "roc_auc": sk.roc_auc_score(y, model, multi_class="ovr", sample_weight=weight),
    }
    for metric, value in expected.items():
        assert weighted_scores(metric, probabilities[:1], y, weight[None])[0, 0] == pytest.approx(value, abs=1e-6)


def test_what_weights_do_not_define_is_nan():
    probabilities, y, _ = case(0, n=6, classes=2)
    one_class = (y == y[0]).astype(float)[None]
    assert np.isnan(weighted_scores("roc_auc", probabilities, y, one_class)).all()
    assert np.isnan(weighted_scores("accuracy", probabilities, y, np.zeros((1, 6)))).all()
    # One sample has no variance to explain.
    one = np.eye(6)[:1]
    assert np.isnan(weighted_scores("r2", probabilities[:, :, 0], y, one)).all()
    assert np.isfinite(weighted_scores("rmse", probabilities[:, :, 0], y, one)).all()


def test_predictions_that_are_not_finite_take_only_their_own_model_with_them():
    probabilities, y, weights = case(5)
    probabilities[1, 3, 0] = np.nan
    scores = weighted_scores("f1", probabilities, y, weights)
    assert np.isnan(scores[:, 1]).all() and np.isfinite(scores[:, [0, 2]]).all()
