"""Where configs fail, learnt from those that did: a probability for a model, and sentences for a person."""

from __future__ import annotations

from typing import Any

import numpy as np

from tuner.strategies.gp_cube import Cube, Rows
from tuner.strategies.regions import regions

RISKY = 0.25


class Failing:
    """How probable it is that a config fails: the larger of two estimates.

    One is the process of a Gaussian process, fitted to what became of the trials, 1 for a failure and 0 for the others,
    with its own length scales: what a config fails by need not be what its loss depends on. A config fails with the
    probability that the process lies above the middle. (A regression of labels, as in C. Rasmussen and C. Williams,
    "Gaussian Processes for Machine Learning", 2006, section 6.5; Laplace's approximation is too slow here.)

    The other is what most failures of training are like, a parameter beyond an end (see `regions`): a process of few
    failures knows nothing of ends, and tries each corner.

    Args:
        cube: The space.
        rows: The trials that are over (n, width).
        failed: Which of them failed (n).
        process: The Gaussian process, fitted to labels of mean 0 and variance 1 (see `scaled`).
        middle: What lies in the middle of its two labels.
    """

    def __init__(self, cube: Cube, rows: Rows, failed: Any, process: Any, middle: float) -> None:
        self._cube, self._process, self._middle = cube, process, middle
        self._limit = max(RISKY, float(np.mean(failed)) + 0.1)
        self._regions = regions(cube, rows, failed)

    def odds(self, rows: Rows) -> Rows:
        """Return the probability of each row (n, width) to fail, in [0, 1]."""
        from scipy.stats import norm

        mean, deviation = self._process.predict(self._cube.features(rows), return_std=True)
        odds = np.asarray(norm.cdf((mean - self._middle) / np.maximum(deviation, 1e-6)))
        for region in self._regions:
            here = np.where(self._cube.has(rows, region.place), region.odds(rows[:, region.place]), 0.0)
            odds = np.maximum(odds, here)
        return odds

    def caution(self, rows: Rows) -> Rows:
        """Return what is added to the logarithm of a gain: that of the probability to succeed.

        Beyond RISKY, or what is usual in this space, it weighs more than any gain: late in a search gains are so small
        that a far corner, of which nothing is known but that it fails, would look better than all near the best.
        """
        odds = self.odds(rows)
        return np.where(odds > self._limit, -1e3 * odds, np.log1p(-np.minimum(odds, 0.999)))


def scaled(failed: Any) -> tuple[Rows, float]:
    """Return labels as numbers of mean 0 and variance 1, and what lies in the middle of the two.

    Args:
        failed: Which trials failed (n); some, and not all.
    """
    labels = np.asarray(failed, dtype=float)
    mean, deviation = labels.mean(), labels.std()
    return (labels - mean) / deviation, float((0.5 - mean) / deviation)
