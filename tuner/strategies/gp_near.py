"""A Gaussian process that also looks closely at what lies around the best config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tuner.strategies.base import Config, config_key
from tuner.strategies.gp import GaussianProcess, Posterior, single_threaded, warped
from tuner.strategies.gp_cube import STEPS, Rows
from tuner.strategies.gp_fit import fitted
from tuner.strategies.modelled import Told

NEAREST = 64  # trials that the close look is fitted to
LEAST = 16  # trials that are over before there is one
LEAST_A_NUMBER = 2  # ... and so many for each parameter
CENTRES = 3  # good configs that its candidates are drawn around
FINER = (0.1, 0.03)  # of STEPS, round after round around the best candidates
FINER_COUNT = 96  # candidates a round


class NearBest(GaussianProcess):
    """The Gaussian process of `gp`, and beside it one of the trials nearest to the best.

    The process over the whole space is fitted to trials of which most are far from the best by now, and its losses are
    warped so that none of them hides the good region: what differs within that region is small to it. The close look is
    fitted anew for each proposal, to the nearest trials alone, whose losses are warped among themselves, and its
    candidates are steps around the best of them. It is a trust region as in D. Eriksson et al., "Scalable Global
    Optimization via Local Bayesian Optimization", NeurIPS 2019, whose size is a number of trials in place of a length.
    What is near is told by the length scales of the process over the whole space.
    """

    def suggest_near(self, told: Sequence[Told], seed: int, seen: set[str]) -> Config | None:
        """Return the config that promises most near the best; None while too few trials are over, or all were tried."""
        width = self._cube.width
        if sum(each.state != "pending" for each in told) < max(LEAST, LEAST_A_NUMBER * width) or not width:
            return None
        with single_threaded():
            for row in self._near(told, np.random.default_rng(seed)):
                config = self._compiled.decode(self._cube.numbers(row))
                if config_key(config) not in seen:
                    return config
        return None

    def _near(self, told: Sequence[Told], rng: np.random.Generator) -> Rows:
        """Return candidates near the best, the largest expected improvement first."""
        rows = self._rows(told)
        features = self._cube.features(rows)
        pending = np.array([each.state == "pending" for each in told])
        losses = np.array([each.loss for each in told])
        nearest = self._nearest(told, features, losses, ~pending)
        known = warped(losses[nearest])
        theta = fitted(features[nearest], known)
        kept = np.union1d(nearest, np.flatnonzero(pending))
        model = Posterior(theta, self._cube, rows[kept], known, pending[kept], self._failing(told))
        best = rows[nearest][np.argsort(known, kind="stable")[:CENTRES]]
        found = self._cube.around(best, self._options.candidates, STEPS / 2, rng)
        gains = model.gains(found)
        for part in FINER:
            top = found[np.argsort(-gains, kind="stable")[:CENTRES]]
            finer = self._cube.around(top, FINER_COUNT, STEPS * part, rng)
            found, gains = np.vstack([found, finer]), np.concatenate([gains, model.gains(finer)])
        ranked: Rows = found[np.argsort(-gains, kind="stable")]
        return ranked

    def _nearest(self, told: Sequence[Told], features: Rows, losses: Rows, over: Any) -> Any:
        """Return the places of the trials nearest to the best, itself among them, of those that are over."""
        places = np.flatnonzero(over)
        best = places[np.argmin(losses[places])]
        apart = np.square((features[places] - features[best]) / np.exp(self._kernel(told)[1:-1])).sum(axis=1)
        return np.sort(places[np.argsort(apart, kind="stable")[:NEAREST]])
