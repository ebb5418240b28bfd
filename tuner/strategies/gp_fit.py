"""The most probable parameters of a Gaussian process's kernel.

scikit-learn's own likelihood is the same number; its kernels spend most of their time on looking up their parameters'
names, which for a few dozen trials is twenty times what the algebra takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tuner.strategies.gp_cube import Rows

STEPS = 12  # of the optimiser
JITTER = 1e-6
VARIANCE = (0.1, 10.0)
SCALE = (0.02, 1e2)
NOISE = (1e-4, 1.0)  # variance, where that of the losses is 1


def fitted(features: Rows, losses: Rows) -> Rows:
    """Return the kernel's most probable parameters: the logarithms of variance, length scales, and noise.

    The prior of the length scales is that of C. Hvarfner et al. (2024, see `GaussianProcess`), log-normal with median
    e^sqrt(2) sqrt(width) and deviation sqrt(3); those of variance and noise are log-normal around 1 and 0.01.

    Args:
        features: (n, width).
        losses: (n,), with mean 0 and variance 1.
    """
    width = features.shape[1]
    start = np.log([1.0, *[0.5 * width**0.5] * width, 0.01])
    if len(losses) < 2 or not losses.any():
        return start
    middle = np.sqrt(2) + 0.5 * np.log(width)
    apart = squared_differences(features)

    def improbability(theta: Rows) -> tuple[float, Rows]:
        scales = theta[1:-1]
        value, slope = log_likelihood(theta, apart, losses)
        value -= np.sum((scales - middle) ** 2 / 6 + scales) + theta[0] ** 2 / 2 + (theta[-1] - np.log(0.01)) ** 2 / 8
        slope[0] -= theta[0]
        slope[1:-1] -= (scales - middle) / 3 + 1
        slope[-1] -= (theta[-1] - np.log(0.01)) / 4
        return -value, -slope

    from scipy.optimize import minimize

    bounds = np.log([VARIANCE, *[SCALE] * width, NOISE])
    found = minimize(improbability, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": STEPS})
    return np.asarray(found.x)


def squared_differences(features: Rows) -> Rows:
    """Return the squared differences (width, n, n) of n rows of features."""
    return np.square(features.T[:, :, None] - features.T[:, None, :])


def log_likelihood(theta: Rows, apart: Rows, losses: Rows) -> tuple[float, Rows]:
    """Return the logarithm of the marginal likelihood, and its gradient by the parameters.

    The kernel is Matern 5/2; C. Rasmussen and C. Williams, "Gaussian Processes for Machine Learning", 2006, equations
    2.30 and 5.9.

    Args:
        theta: The logarithms of variance, length scales, and noise.
        apart: Squared differences (width, n, n) of the features.
        losses: (n,).
    """
    from scipy.linalg import cho_factor, cho_solve

    variance, weights, noise = np.exp(theta[0]), np.exp(-2 * theta[1:-1]), np.exp(theta[-1])
    t = np.sqrt(5 * np.tensordot(weights, apart, 1))
    fading = variance * np.exp(-t)
    signal = (1 + t + t**2 / 3) * fading
    one = np.eye(len(losses))
    factor: Any = cho_factor(signal + (noise + JITTER) * one, lower=True)
    told = cho_solve(factor, losses)
    value = -0.5 * losses @ told - np.log(np.diag(factor[0])).sum() - 0.5 * len(losses) * np.log(2 * np.pi)
    pull = 0.5 * (np.outer(told, told) - cho_solve(factor, one))
    by_scale = weights * np.tensordot(apart, pull * 5 / 3 * (1 + t) * fading, 2)
    return float(value), np.array([np.sum(pull * signal), *by_scale, noise * np.trace(pull)])
