import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from tuner.strategies.gp import _regressor
from tuner.strategies.gp_fit import JITTER, NOISE, SCALE, VARIANCE, fitted, log_likelihood, squared_differences


def trials(count, width, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.random((count, width))
    losses = (features[:, 0] - 0.3) ** 2 + 0.01 * rng.standard_normal(count)
    return features, (losses - losses.mean()) / losses.std()


@pytest.mark.parametrize("width", [1, 2, 12])
@pytest.mark.parametrize("count", [2, 9, 48])
def test_the_likelihood_and_its_gradient_are_scikit_learns(count, width):
    features, losses = trials(count, width)
    kernel = ConstantKernel() * Matern(np.ones(width), nu=2.5) + WhiteKernel()
    regressor = GaussianProcessRegressor(kernel, alpha=JITTER, optimizer=None).fit(features, losses)
    for seed in range(5):
        theta = np.random.default_rng(seed).normal(-0.5, 1.0, width + 2)
        value, slope = log_likelihood(theta, squared_differences(features), losses)
        theirs, their_slope = regressor.log_marginal_likelihood(theta, eval_gradient=True)
        assert value == pytest.approx(theirs, rel=1e-9) and slope == pytest.approx(their_slope, rel=1e-6, abs=1e-8)


def test_what_is_fitted_is_inside_the_bounds_and_knows_what_matters():
    theta = np.exp(fitted(*trials(48, 3)))
    assert VARIANCE[0] <= theta[0] <= VARIANCE[1] and NOISE[0] <= theta[-1] <= NOISE[1]
    assert all(SCALE[0] <= scale <= SCALE[1] for scale in theta[1:-1])
    assert 5 * theta[1] < min(theta[2:-1])


@pytest.mark.parametrize("losses", [[], [0.0], [0.0, 0.0]])
def test_where_nothing_is_to_be_learnt_the_start_is_kept(losses):
    found = fitted(np.zeros((len(losses), 2)), np.array(losses))
    assert _regressor(2).kernel.theta.shape == found.shape and np.isfinite(found).all()
