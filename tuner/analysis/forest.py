"""A random forest over a space, and its exact marginals: what it says of one parameter, averaged over the others.

After Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014. A
forest is a sum of boxes; the average over all other parameters needs only each box's extent along them. Parameters
are cut into cells (features.Axis), and averages are taken under the space's own probabilities, branch by branch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.tree import DecisionTreeRegressor

from tuner.analysis.features import Axis, Features, Scenario

Floats = NDArray[np.float64]
SAMPLES = 1024
"""Configs drawn from the space to measure the variance of a forest's predictions over it."""


@dataclass(frozen=True)
class Boxes:
    """The leaves of all trees: a prediction is the sum of the values of the boxes that hold the config.

    Args:
        members: An axis each: which boxes hold which cell (K, L).
        absent: Which boxes hold a config that does not have the parameter (P, L).
        values: (L,), divided by the number of trees.
    """

    members: tuple[Floats, ...]
    absent: Floats
    values: Floats


@dataclass(frozen=True)
class Forest:
    """Trees, each grown on trials drawn with replacement.

    scikit-learn's own forest takes twice the time of its trees at these sizes, and intervals need hundreds.

    Args:
        trees: Of scikit-learn.
        drawn: Which rows (trees, n) each tree was grown on.
    """

    trees: tuple[DecisionTreeRegressor, ...]
    drawn: NDArray[np.int64]

    def each(self, matrix: Floats) -> Floats:
        """Return every tree's predictions (trees, n)."""
        rows = matrix.astype(np.float32)
        predicted: Floats = np.stack([tree.tree_.predict(rows).ravel() for tree in self.trees])
        return predicted

    def unseen(self) -> NDArray[np.bool_]:
        """Return which rows (trees, n) each tree has not seen: out of bag."""
        unseen = np.ones(self.drawn.shape, dtype=bool)
        np.put_along_axis(unseen, self.drawn, False, axis=1)
        return unseen

    def predict_unseen(self, matrix: Floats, y: Floats) -> Floats:
        """Return each row's mean prediction (n,) by the trees that had not seen it; `y` where all had."""
        unseen = self.unseen()
        votes = unseen.sum(axis=0)
        means: Floats = np.divide((self.each(matrix) * unseen).sum(axis=0), votes, out=y.copy(), where=votes > 0)
        return means

    def fit_unseen(self, matrix: Floats, y: Floats) -> float:
        """Return R2 on the rows that trees had not seen."""
        return 1.0 - float(np.mean((self.predict_unseen(matrix, y) - y) ** 2) / np.var(y))


def grow(matrix: Floats, y: Floats, seed: int, trees: int) -> Forest:
    """Return a forest of these rows; small leaves for few trials, larger ones for many (it is quicker)."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(y), size=(trees, len(y)))
    seeds = rng.integers(2**31, size=trees)
    rows, targets = matrix.astype(np.float32), y.astype(np.float64)
    grown = []
    with config_context(skip_parameter_validation=True):
        for number in range(trees):
            tree = DecisionTreeRegressor(
                min_samples_leaf=max(2, min(5, len(y) // 100)), max_features=0.7, random_state=int(seeds[number])
            )
            grown.append(tree.fit(rows[drawn[number]], targets[drawn[number]], check_input=False))
    return Forest(tuple(grown), drawn)


def boxes(forest: Forest, axes: tuple[Axis, ...]) -> Boxes:
    """Return the leaves of a forest."""
    low, high, values = _bounds(forest)
    members = tuple(_members(axis, low, high) for axis in axes)
    absent = np.ones((len(axes), len(values)))
    for number, axis in enumerate(axes):
        columns = slice(axis.column, axis.column + axis.width)
        absent[number] = ((low[:, columns] < axis.inactive) & (axis.inactive <= high[:, columns])).all(axis=1)
    return Boxes(members, absent, values)


def _bounds(forest: Forest) -> tuple[Floats, Floats, Floats]:
    """Return each leaf's lower (excluded) and upper (included) bounds (L, columns) and its value (L,)."""
    trees = [tree.tree_ for tree in forest.trees]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    left = np.concatenate(
        [np.where(t.children_left < 0, -1, t.children_left + s) for t, s in zip(trees, starts[:-1], strict=True)]
    )
    right = np.concatenate(
        [np.where(t.children_right < 0, -1, t.children_right + s) for t, s in zip(trees, starts[:-1], strict=True)]
    )
    feature = np.concatenate([tree.feature for tree in trees])
    threshold = np.concatenate([tree.threshold for tree in trees])
    low = np.full((starts[-1], trees[0].n_features), -np.inf)
    high = np.full((starts[-1], trees[0].n_features), np.inf)
    nodes = starts[:-1]
    while len(nodes):  # one level of all trees at a time
        nodes = nodes[left[nodes] >= 0]
        for child in (left[nodes], right[nodes]):
            low[child], high[child] = low[nodes], high[nodes]
        high[left[nodes], feature[nodes]] = threshold[nodes]
        low[right[nodes], feature[nodes]] = threshold[nodes]
        nodes = np.concatenate([left[nodes], right[nodes]])
    leaves = left < 0
    values = np.concatenate([tree.value[:, 0, 0] for tree in trees])[leaves] / len(trees)
    return low[leaves], high[leaves], values


def _members(axis: Axis, low: Floats, high: Floats) -> Floats:
    inside = np.ones((len(axis.values), len(low)), dtype=bool)
    for offset, cells in enumerate(axis.encoded().T):
        column = axis.column + offset
        inside &= (low[:, column] < cells[:, None]) & (cells[:, None] <= high[:, column])
    return inside.astype(float)


def marginals(leaves: Boxes, features: Features, points: tuple[Floats, ...] | None = None) -> list[Floats]:
    """Return the forest's average prediction at each cell of each axis, over everything else it can meet there.

    A conditional parameter is averaged within its branch.

    Args:
        leaves: Of a forest.
        features: Whose axes and scenarios.
        points: Other members (K, L) an axis, to average at other places than the cells.
    """
    sums = [np.zeros(len(members)) for members in points or leaves.members]
    weights = np.zeros(len(sums))
    by_option = [np.zeros(len(total)) for total in sums]
    for scenario in features.scenarios:
        others = _others(leaves, features, scenario)
        for number in np.flatnonzero(scenario.active):
            members = (points or leaves.members)[number]
            option = scenario.chosen.get(int(number))
            if option is None:
                sums[number] += scenario.weight * (members @ (leaves.values * others[number]))
                weights[number] += scenario.weight
            else:
                sums[number][option] += scenario.weight * float(members[option] @ (leaves.values * others[number]))
                by_option[number][option] += scenario.weight
    return [
        _ratio(total, by_option[number] if by_option[number].any() else np.full(len(total), weights[number]))
        for number, total in enumerate(sums)
    ]


def _ratio(total: Floats, weight: Floats) -> Floats:
    averages: Floats = np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0)
    return averages


def pair_marginal(leaves: Boxes, features: Features, first: int, second: int) -> Floats:
    """Return the average prediction (K1, K2) at each pair of cells; NaN where the two never meet."""
    total = np.zeros((len(leaves.members[first]), len(leaves.members[second])))
    weight = np.zeros_like(total)
    for scenario in features.scenarios:
        if not scenario.active[[first, second]].all():
            continue
        shares = _shares(leaves, features, scenario)
        rest = np.prod(np.delete(shares, [first, second], axis=0), axis=0) * leaves.values
        grid = (leaves.members[first] * rest) @ leaves.members[second].T
        mask = np.outer(_mask(features, scenario, first), _mask(features, scenario, second))
        total += scenario.weight * mask * grid
        weight += scenario.weight * mask
    averages: Floats = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return averages


def _mask(features: Features, scenario: Scenario, number: int) -> Floats:
    cells = len(features.axes[number].values)
    option = scenario.chosen.get(number)
    return np.ones(cells) if option is None else np.eye(cells)[option]


def _shares(leaves: Boxes, features: Features, scenario: Scenario) -> Floats:
    """Return which share of each axis every box covers in a scenario (P, L)."""
    shares = leaves.absent.copy()
    for number in np.flatnonzero(scenario.active):
        option = scenario.chosen.get(int(number))
        members = leaves.members[number]
        shares[number] = features.axes[number].weights @ members if option is None else members[option]
    return shares


def _others(leaves: Boxes, features: Features, scenario: Scenario) -> Floats:
    """Return the product of the shares of all other axes, an axis each (P, L); without dividing by zero."""
    shares = _shares(leaves, features, scenario)
    ones = np.ones((1, shares.shape[1]))
    before = np.cumprod(np.concatenate([ones, shares[:-1]]), axis=0)
    after = np.cumprod(np.concatenate([ones, shares[:0:-1]]), axis=0)[::-1]
    product: Floats = before * after
    return product


def _evenly(weights: Floats, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return places drawn with these weights, each as often as it should be, but for rounding (a Latin hypercube)."""
    heights = (np.arange(count) + rng.uniform(size=count)) / count
    places = np.searchsorted(np.cumsum(weights / weights.sum())[:-1], heights, side="right")
    shuffled: NDArray[np.int64] = rng.permutation(places)
    return shuffled


def draw(features: Features, seed: int, count: int = SAMPLES) -> Floats:
    """Return the features (count, columns) of configs drawn from the space, numbers at the middles of their cells."""
    rng = np.random.default_rng(seed)
    weights = np.array([scenario.weight for scenario in features.scenarios])
    which = _evenly(weights, count, rng)
    matrix = np.zeros((count, features.matrix.shape[1]))
    for number, axis in enumerate(features.axes):
        cells = _evenly(axis.weights, count, rng)
        for place, scenario in enumerate(features.scenarios):
            cells[which == place] = scenario.chosen.get(number, cells[which == place])
        active = np.array([scenario.active[number] for scenario in features.scenarios])[which]
        columns = slice(axis.column, axis.column + axis.width)
        matrix[:, columns] = np.where(active[:, None], axis.encoded()[cells], axis.inactive)
    return matrix
