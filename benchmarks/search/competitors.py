"""Who is compared. A competitor is asked for configs and told what they came to; all are made alike.

To add one of this project's strategies, name it in OURS: that is all.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from benchmarks.search import peers
from benchmarks.search.tasks import Config
from tuner import Space, Sweep

OURS = ("random", "quasi_random", "hyperopt", "anneal", "gp", "optuna", "auto")
"""This project's strategies that are compared, where they exist."""

ROOT = Path(__file__).parents[2]


class Competitor(Protocol):
    """Proposes configs."""

    def ask(self) -> tuple[Any, Config] | None:
        """Return (id, config), or None when nothing is left to propose."""

    def tell(self, key: Any, loss: float | None, curve: Sequence[float] = ()) -> None:
        """Take what the config of an id came to; None: it failed."""


Factory = Callable[[Space, int, int, int], Competitor]
"""(space, seed, trials, concurrency) -> competitor."""


def _never_trained(config: Config, trial: Any) -> None:
    raise AssertionError("the benchmark evaluates configs itself")


class Ours:
    """One of this project's strategies, asked as the driver asks it.

    Args:
        name: Its name in a sweep file.
        space: Where to search.
        seed: The sweep's seed.
        trials: How many there will be.
        concurrency: How many side by side.
    """

    def __init__(self, name: str, space: Space, seed: int, trials: int, concurrency: int) -> None:
        from tuner.strategies import Observation, make_strategy

        sweep = Sweep(
            trainable=_never_trained,
            space=space.to_table(),
            metric="loss",
            mode="min",
            seed=seed,
            search={"strategy": name, "trials": trials},
            resources={"max_concurrent": concurrency},
        )
        self._strategy = make_strategy(sweep)
        self._observation = Observation
        self._history: list[Observation] = []
        self.by: list[str] = []

    def ask(self) -> tuple[int, Config] | None:
        proposal = self._strategy.ask(self._history)
        if proposal is None:
            return None
        index = len(self._history) + 1
        self._history.append(self._observation(index, proposal.config, "pending", by=proposal.by))
        self.by.append(proposal.by)
        return index, proposal.config

    def tell(self, key: int, loss: float | None, curve: Sequence[float] = ()) -> None:
        asked = self._history[key - 1]
        state = "failed" if loss is None else "done"
        self._history[key - 1] = replace(asked, state=state, loss=loss)  # type: ignore[arg-type]


def competitors() -> dict[str, Factory]:
    """Return every competitor by its name: ours, then the others."""
    from tuner.strategies import STRATEGIES

    ours = {name: _ours(name) for name in OURS if name in STRATEGIES}
    return {**ours, **peers.PEERS}


def _ours(name: str) -> Factory:
    return lambda space, seed, trials, concurrency: Ours(name, space, seed, trials, concurrency)


def code_hash(name: str) -> str:
    """Return a hash that changes with what a competitor is made of: its modules here, or its package's version."""
    if name in peers.PEERS:
        parts = [peers.source(name), *(version(package) for package in peers.PACKAGES[name])]
    else:
        home = _module_of(name)
        parts = [Path(file).read_text() for file in sorted(_imported(home, {}).values())]
        parts += [inspect.getsource(Ours), *(version(p) for p in ("hyperopt", "scikit-learn", "scipy", "numpy"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _module_of(name: str) -> str:
    space = Space.parse({"x": {"uniform": [0.0, 1.0]}})
    return type(Ours(name, space, 0, 10, 1)._strategy).__module__


def _imported(module: str, found: dict[str, str]) -> dict[str, str]:
    """Return the files of a module, and of what it imports of this project's strategies and spaces: name -> file."""
    spec = importlib.util.find_spec(module)
    if module in found or spec is None or spec.origin is None:
        return found
    found[module] = spec.origin
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        names = [f"{node.module}", *(f"{node.module}.{a.name}" for a in node.names)] if _is_from(node) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith(("tuner.strategies.", "tuner.space.")) and _exists(name):
                _imported(name, found)
    return found


def _is_from(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
