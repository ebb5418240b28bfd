"""Bayesian optimisation with a Gaussian process, through scikit-learn's."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np

from tuner.space import Space, derive_seed
from tuner.strategies.base import Config, Observation, Proposal, config_key
from tuner.strategies.compiled import Latent
from tuner.strategies.failing import Failing, scaled
from tuner.strategies.gp_cube import STEPS, Cube, Rows
from tuner.strategies.gp_fit import JITTER, fitted
from tuner.strategies.modelled import Modelled, Told
from tuner.strategies.options import GaussianProcessOptions
from tuner.strategies.quasi_random import Sobol

CENTRES = 6  # good configs that candidates are drawn around
FIT = 48  # trials that the kernel's parameters are fitted to, at most
EXACT = 8  # up to so many trials the kernel is fitted anew for each proposal


class GaussianProcess(Modelled):
    """Proposes the config with the largest expected improvement under a Gaussian process.

    The kernel is Matern 5/2 with a length scale for each feature (see `Cube.features`), and noise. Its parameters are
    those most probable after a prior that prefers long scales, the more so in many dimensions (C. Hvarfner et al.,
    "Vanilla Bayesian Optimization Performs Great in High Dimensions", ICML 2024), so that few trials do not make it
    wild. They are fitted anew as the history grows by a tenth, always from a beginning of the history alone, which
    makes a proposal cheap, and the same for a fresh strategy as for one that was there all along.

    Losses are warped first (`warped`), so neither a failure nor an exploded loss hides the good region. The trials that
    are pending narrow the uncertainty where they are, and do not touch the mean (T. Desautels et al., "Parallelizing
    exploration-exploitation tradeoffs", JMLR 2014): no lie about their loss is needed.

    Candidates are a shifted Sobol sequence, and steps of several sizes around the best configs, then around the best
    candidates.

    Args:
        space: Where to search.
        seed: The sweep's seed; each proposal has one of its own.
        initial_random: Quasi-random configs after the points, before the model takes over.
        points: Configs to begin with.
        options: Its table in a sweep file.
    """

    name = "gp"
    model: ClassVar[str] = "a Gaussian process"

    def __init__(
        self,
        space: Space,
        seed: int,
        initial_random: int,
        points: Iterable[Config] = (),
        options: GaussianProcessOptions = GaussianProcessOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(space, seed, initial_random, points)
        self._options = options
        self._cube = Cube(self._compiled)
        self._sobol = Sobol(self._compiled, derive_seed(seed, self.name))
        self._known_rows: dict[int, tuple[Latent, list[float]]] = {}  # a memo, by the identity of what is in it
        self._fits: dict[str, tuple[bytes, Rows]] = {}  # a memo: what was fitted to, and what came of it

    def _start(self, history: Sequence[Observation], seen: set[str], why: str) -> Proposal | None:
        if self._compiled.leaves:
            config = self._sobol.config(self._started(history))
            if config_key(config) not in seen:
                return Proposal(config, by="random start", why=f"{why}, of a Sobol sequence")
        return super()._start(history, seen, why)

    def _suggest(self, told: Sequence[Told], number: int, seed: int, attempt: int, seen: set[str]) -> Config | None:
        if not self._compiled.leaves:
            return None
        with single_threaded():
            return self._best(told, seed, seen)

    def _best(self, told: Sequence[Told], seed: int, seen: set[str]) -> Config | None:
        """Return the config that promises most, of those that were not tried."""
        rng = np.random.default_rng(seed)
        kernel, failing = self._kernel(told), self._failing(told)
        told = _part(told, self._options.max_trials)
        rows = self._rows(told)
        pending = np.array([each.state == "pending" for each in told])
        losses = warped(np.array([each.loss for each in told])[~pending])
        model = Posterior(kernel, self._cube, rows, losses, pending, failing)
        best = rows[~pending][np.argsort(losses, kind="stable")[:CENTRES]]
        for row in self._ranked(model, best, rng):
            config = self._compiled.decode(self._cube.numbers(row))
            if config_key(config) not in seen:
                return config
        return None

    def odds_to_fail(self, told: Sequence[Told], config: Config) -> float:
        """Return the probability that a config fails, as far as the trials tell."""
        numbers = self._compiled.encode(config)
        with single_threaded():
            failing = self._failing(told)
            if failing is None or numbers is None:
                return 0.0
            return float(failing.odds(np.array([self._cube.row(numbers)]))[0])

    def _ranked(self, model: Posterior, best: Rows, rng: np.random.Generator) -> Rows:
        """Return candidates, the largest expected improvement first."""
        count = self._options.candidates
        shifted = (self._sobol.points(count) + rng.random(self._cube.width)) % 1
        rows = np.vstack([self._cube.stretched(shifted), self._cube.around(best, count // 2, STEPS, rng)])
        gains = model.gains(rows)
        top = rows[np.argsort(-gains, kind="stable")[:CENTRES]]
        near = self._cube.around(top, count // 2, STEPS / 4, rng)
        rows, gains = np.vstack([rows, near]), np.concatenate([gains, model.gains(near)])
        ranked: Rows = rows[np.argsort(-gains, kind="stable")]
        return ranked

    def _kernel(self, told: Sequence[Told]) -> Rows:
        """Return the kernel's parameters, from a beginning of what is told."""
        known = [each for each in told[: _beginning(len(told))] if each.state != "pending"]
        known = _part(known or [each for each in told if each.state != "pending"], FIT)
        features = self._cube.features(self._rows(known))
        return self._fitted("loss", features, warped(np.array([each.loss for each in known])))

    def _fitted(self, what: str, features: Rows, values: Rows) -> Rows:
        key = features.tobytes() + values.tobytes()
        if self._fits.get(what, (b"",))[0] != key:
            self._fits[what] = key, fitted(features, values)
        return self._fits[what][1]

    def _rows(self, told: Sequence[Told]) -> Rows:
        """Return the coordinates of trials (n, width)."""
        rows = []
        for each in told:
            numbers, row = self._known_rows.get(id(each.numbers), (None, []))
            if numbers is not each.numbers:
                row = self._cube.row(each.numbers)
                self._known_rows[id(each.numbers)] = each.numbers, row
            rows.append(row)
        return np.array(rows)

    def _failing(self, told: Sequence[Told]) -> Failing | None:
        """Return where configs fail; None where none did, or all."""
        over = [each for each in told if each.state != "pending"]
        failed = np.array([each.state == "failed" for each in over])
        if not failed.any() or failed.all():
            return None
        rows = self._rows(over)
        end = _beginning(len(over))
        begun = _newest_of_each(failed[: end if 0 < failed[:end].sum() < end else None], FIT // 2)
        theta = self._fitted("failing", self._cube.features(rows[begun]), scaled(failed[begun])[0])
        kept = _newest_of_each(failed, self._options.max_trials // 4)
        labels, middle = scaled(failed[kept])
        process = _regressor(len(theta) - 2)
        process.kernel.theta = theta
        return Failing(self._cube, rows, failed, process.fit(self._cube.features(rows[kept]), labels), middle)


def _newest_of_each(failed: Any, most: int) -> Any:
    """Return the places of the newest trials that failed, and of the newest that did not, at most so many of each."""
    return np.sort(np.concatenate([np.flatnonzero(failed)[-most:], np.flatnonzero(~failed)[-most:]]))


def single_threaded() -> AbstractContextManager[Any]:
    """Compute in one thread: the matrices are small, and the trials beside them want the cores."""
    return _threads().limit(limits=1)  # type: ignore[no-any-return]


@functools.cache
def _threads() -> Any:
    """Return the libraries of this process that compute in threads; scikit-learn's are loaded by then."""
    import sklearn.gaussian_process  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _beginning(count: int) -> int:
    """Return how much of a history the kernel is fitted to: all while it is short, then steps of a tenth."""
    step = EXACT
    if count <= EXACT:
        return count
    while step + max(2, step // 10) <= count:
        step += max(2, step // 10)
    return step


def _part(told: Sequence[Told], most: int) -> list[Told]:
    """Return at most so many: the best half of those that are over, then all that are pending, then the newest."""
    if len(told) <= most:
        return list(told)
    pending = [place for place, each in enumerate(told) if each.state == "pending"]
    over = sorted({*range(len(told))} - {*pending}, key=lambda place: (told[place].loss, place))
    kept = set(over[: most // 2])
    for place in (*reversed(pending), *reversed(range(len(told)))):
        if len(kept) >= most:
            break
        kept.add(place)
    return [told[place] for place in sorted(kept)]


def warped(losses: Rows) -> Rows:
    """Return losses with mean 0 and variance 1, in which the bad ones take little room; their order stays.

    The better half keeps its values. The worse half is replaced by its ranks, as normal scores of the better half's
    width, so that it does not matter how bad a failure is. Source: X. Song et al., "The Vizier Gaussian Process Bandit
    Algorithm", 2024, appendix; there, as here, good differences are then stretched by a logarithm.

    Args:
        losses: Finite, to be minimised.
    """
    from scipy.stats import norm, rankdata

    middle = np.sort(losses)[(len(losses) - 1) // 2]
    good, shares = losses <= middle, (rankdata(losses) - 0.5) / len(losses)
    # Only the better half is reckoned with, and its size taken out first: squares of the largest floats overflow.
    kept = np.minimum(losses, middle) / (np.abs(losses[good]).max() or 1.0)
    scale = np.sqrt(np.mean(np.square(kept[good] - kept.max()))) or 1.0
    half = kept + np.where(good, 0.0, scale * norm.ppf(np.maximum(shares, 0.5)))
    width = half.max() - half.min()
    if not width > 0:
        return np.zeros(len(losses))
    stretched = -np.log1p(0.5 * (half.max() - half) / width)
    return np.asarray((stretched - stretched.mean()) / stretched.std())


def _regressor(width: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel() * Matern(np.ones(width), nu=2.5) + WhiteKernel()
    return GaussianProcessRegressor(kernel, alpha=JITTER, optimizer=None)


class Posterior:
    """What is known after the trials: the mean from those that are over, the uncertainty from all."""

    def __init__(
        self, theta: Rows, cube: Cube, rows: Rows, losses: Rows, pending: Any, failing: Failing | None
    ) -> None:
        self._cube, self._failing = cube, failing
        self._noise = float(np.exp(theta[-1]))
        features = cube.features(rows)
        self._over = self._fit(theta, features[~pending], losses)
        self._all = self._fit(theta, features, np.zeros(len(features))) if pending.any() else self._over
        # The best that the model believes, not the best that was seen: that may have been luck.
        self._best = float(self._over.predict(features[~pending]).min())

    def _fit(self, theta: Rows, features: Rows, losses: Rows) -> Any:
        regressor = _regressor(features.shape[1])
        regressor.kernel.theta = theta
        return regressor.fit(features, losses)

    def gains(self, rows: Rows) -> Rows:
        """Return the logarithm of the improvement that is expected of each row, up to rounding far out."""
        from scipy.stats import norm

        features = self._cube.features(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a variance below 0 by rounding is set to 0
            if self._all is self._over:
                mean, deviation = self._over.predict(features, return_std=True)
            else:
                mean, deviation = self._over.predict(features), self._all.predict(features, return_std=True)[1]
        # What training the same config again would vary by is no reason to train it again.
        deviation = np.sqrt(np.maximum(deviation**2 - self._noise, 1e-12))
        z = (self._best - mean) / deviation
        gain = z * norm.cdf(z) + norm.pdf(z)
        # Far below, where that is 0 by rounding, its logarithm goes as -z^2 / 2.
        safe = 0.0 if self._failing is None else self._failing.caution(rows)
        return np.asarray(
            safe + np.log(deviation) + np.where(z > -6, np.log(np.maximum(gain, 1e-300)), -(z**2) / 2 - 5)
        )
