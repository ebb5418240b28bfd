"""Tasks of recorded learning curves: what is proposed comes to what its nearest recorded config came to.

Nearest is by latent coordinates (a range is 0 to 1 on its own scale, two options of a choice are 1 apart), each
multiplied by how much the parameter matters in its branch of the table; the choices that open branches must agree. So
every loss, failure and curve that a competitor meets is one that was really trained, and stopping rules can be replayed
on the same rows; a fitted surrogate would be smoother, but its losses and crashes were never measured, and favour
strategies that think like it. It is the same for every competitor.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.search.tasks import Config, Outcome
from tuner import Choice, Space
from tuner.space import Leaf, Numeric

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
FLOOR = 0.02  # the weight of a parameter that does not matter: it still tells two configs apart


@dataclass(frozen=True)
class Row:
    """One recorded trial.

    Args:
        config: Its config.
        curve: The loss after each epoch, minimised.
        failed: Whether its config made it fail.
        epoch_s: Median seconds of an epoch.
    """

    config: Config
    curve: tuple[float, ...]
    failed: bool
    epoch_s: float

    @property
    def loss(self) -> float:
        """The loss at the best epoch; infinite where there is none."""
        return min(self.curve, default=math.inf)


class Table:
    """A recorded table as a task: see benchmarks.search.tasks.Task.

    Args:
        name: A file of benchmarks/data and of benchmarks/search/tables, without its suffix.
        data: The folder of the files.
    """

    def __init__(self, name: str, data: Path = DATA) -> None:
        self.name = name
        sweep = tomllib.loads((HERE / "tables" / f"{name}.toml").read_text())
        self.space = Space.parse(sweep["space"])
        self.max_epochs: int = sweep["sweep"]["max_epochs"]
        self.maximised = sweep["sweep"]["mode"] == "max"
        self.path = data / f"{name}.parquet"
        self.rows = read_rows(self.path, self.space, sweep["sweep"]["metric"], self.maximised)
        self.crashing = any(row.failed for row in self.rows)
        self.optimum = min(row.loss for row in self.rows if not row.failed)
        self._nearest = Nearest(self.space, self.rows)

    def evaluate(self, config: Config, noise: float = 0.0) -> Outcome:
        row = self.rows[self._nearest.index(config)]
        seconds = row.epoch_s * max(1, len(row.curve))
        if row.failed:
            return Outcome(None, None, seconds, row.curve)
        return Outcome(row.loss, row.loss, seconds, row.curve)

    def fingerprint(self) -> str:
        recorded = hashlib.sha256(self.path.read_bytes()).hexdigest()
        code = "".join(inspect.getsource(part) for part in (Table, Nearest, weights, read_rows))
        return code + recorded + json.dumps(self.space.to_table())


def read_rows(path: Path, space: Space, metric: str, maximised: bool) -> list[Row]:
    """Return a table's trials, in the order in which they were recorded."""
    frame = pd.read_parquet(path)
    frame["signed"] = 1 - frame[metric] if maximised else frame[metric]
    typical = float(frame["epoch_s"].median())
    return [_row(trial, space, typical) for _, trial in frame.sort_values(["trial", "epoch"]).groupby("trial")]


def _row(trial: pd.DataFrame, space: Space, typical: float) -> Row:
    first = trial.iloc[0]
    given = {name.removeprefix("config."): first[name] for name in trial.columns if name.startswith("config.")}
    given = {name: value for name, value in given.items() if name in space.names() and not pd.isna(value)}
    curve = [float(value) for value in trial["signed"] if math.isfinite(value)]
    seconds = trial["epoch_s"].median()
    return Row(
        config=space.conform({name: _plain(name, value, space, given) for name, value in given.items()}),
        curve=tuple(curve),
        failed=bool(first["status"] == "failed") or not curve,
        epoch_s=typical if pd.isna(seconds) else float(seconds),
    )


def _plain(name: str, value: Any, space: Space, given: Config) -> Any:
    """Return a value of a column in the type that the space has: a column with gaps holds whole numbers as floats."""
    value = value.item() if isinstance(value, np.generic) else value
    whole = isinstance(value, float) and value.is_integer()
    domain = next(leaf.domain for leaf in space.leaves() if leaf.name == name)
    return int(value) if whole and not domain.contains(value) else value


class Nearest:
    """Finds the recorded config that is nearest to one of the space.

    Args:
        space: The table's.
        rows: Its rows.
    """

    def __init__(self, space: Space, rows: list[Row]) -> None:
        self._space = space
        self._leaves = space.leaves()
        self._opening = [i for i, leaf in enumerate(self._leaves) if _opens(leaf)]
        points = np.array([self._encode(row.config) for row in rows])
        ranks = pd.Series([math.inf if row.failed else row.loss for row in rows]).rank().to_numpy()
        places: dict[tuple[float, ...], list[int]] = {}
        for place, point in enumerate(points):
            places.setdefault(self._branch(point), []).append(place)
        self._branches = {
            key: (np.array(own), points[own], weights(points[own], ranks[own])) for key, own in places.items()
        }

    def index(self, config: Config, without: int | None = None) -> int:
        """Return the place of the nearest row; of equally near ones, the first.

        Args:
            config: One of the space.
            without: A row that does not count.
        """
        point = self._encode(config)
        places, points, weight = self._branches[self._branch(point)]
        apart = np.abs(np.nan_to_num(points) - np.nan_to_num(point))
        distances = np.minimum(apart, 1.0) ** 2 @ weight**2
        if without is not None:
            distances = np.where(places == without, np.inf, distances)
        return int(places[int(distances.argmin())])

    def _encode(self, config: Config) -> np.ndarray[Any, Any]:
        """Return a config as a point: 0 to 1, or an option's number; NaN where a parameter is not active."""
        point = np.full(len(self._leaves), np.nan)
        active = {leaf.label for leaf in self._space.active(config)}
        for place, leaf in enumerate(self._leaves):
            if leaf.label in active:
                point[place] = _coordinate(leaf, config[leaf.name])
        return point

    def _branch(self, point: np.ndarray[Any, Any]) -> tuple[float, ...]:
        return tuple(-1.0 if math.isnan(point[place]) else float(point[place]) for place in self._opening)


def _opens(leaf: Leaf) -> bool:
    return isinstance(leaf.domain, Choice) and any(leaf.domain.branches)


def _coordinate(leaf: Leaf, value: Any) -> float:
    if isinstance(leaf.domain, Choice):
        return float(leaf.domain.index(value) or 0)
    assert isinstance(leaf.domain, Numeric)
    low, high = leaf.domain.latent
    return (leaf.domain.to_latent(value) - low) / (high - low)


def weights(points: np.ndarray[Any, Any], ranks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return how much each leaf matters in a branch: a forest's importances, with a floor.

    Args:
        points: (N, leaves) coordinates.
        ranks: (N,) ranks of the losses; all that failed share the worst.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(200, min_samples_leaf=3, random_state=0)
    return np.maximum(forest.fit(np.nan_to_num(points, nan=-1.0), ranks).feature_importances_, FLOOR)


def agreement(table: Table) -> float:
    """Return the rank correlation between rows and their nearest other rows: how smooth the table's landscape is."""
    from scipy.stats import spearmanr

    losses = [math.inf if row.failed else row.loss for row in table.rows]
    others = [losses[table._nearest.index(row.config, without=i)] for i, row in enumerate(table.rows)]
    worst = 1 + max(loss for loss in losses if math.isfinite(loss))
    finite = [(min(a, worst), min(b, worst)) for a, b in zip(losses, others, strict=True)]
    return float(spearmanr(*zip(*finite, strict=True)).statistic)


def table_names() -> list[str]:
    """Return the names of the tables that have been recorded."""
    names = sorted(path.stem for path in (HERE / "tables").glob("*.toml"))
    return [name for name in names if (DATA / f"{name}.parquet").exists()]


@functools.cache
def find_table(name: str) -> Table:
    """Return a recorded table, read once."""
    return Table(name)
