"""The others, each driven as its own documentation has it, in this process and one at a time.

hyperopt.fmin: its own suggest functions with what fmin gives them (a seed a proposal from one generator, Trials,
    Domain), a new trial as soon as a worker is free, a failure as {"status": STATUS_FAIL}. fmin itself would propose up
    to a queue's length earlier, with less known.
Optuna: a study with its default sampler, ask and tell; a failure as TrialState.FAIL.
Ray Tune's HyperOptSearch: its own suggest and on_trial_complete; a failure as error=True, as Tune tells it.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.search.tasks import Config
from tuner import Choice, Space
from tuner.space import Fixed, Leaf, Numeric


class Fmin:
    """hyperopt.fmin's loop, one proposal at a time.

    Args:
        algorithm: "tpe", "anneal" or "rand": hyperopt.<algorithm>.suggest with its defaults.
        space: Where to search.
        seed: Of the generator that fmin is given as rstate.
    """

    def __init__(self, algorithm: str, space: Space, seed: int) -> None:
        import hyperopt
        from hyperopt import anneal, rand, tpe

        logging.getLogger("hyperopt").setLevel(logging.ERROR)
        self._base = hyperopt.base
        self._suggest = {"tpe": tpe.suggest, "anneal": anneal.suggest, "rand": rand.suggest}[algorithm]
        self._space = space
        self._domain = hyperopt.Domain(lambda config: 0.0, hyperopt_space(space), pass_expr_memo_ctrl=False)
        self._trials = hyperopt.Trials()
        self._rstate = np.random.default_rng(seed)

    def ask(self) -> tuple[int, Config]:
        trials = self._trials
        ids = trials.new_trial_ids(1)
        trials.refresh()
        with np.errstate(all="ignore"):
            docs = self._suggest(ids, self._domain, trials, self._rstate.integers(2**31 - 1))
        trials.insert_trial_docs(docs)
        trials.refresh()
        doc = trials._dynamic_trials[-1]
        doc["state"] = self._base.JOB_STATE_RUNNING
        return doc["tid"], from_labels(self._space, self._base.spec_from_misc(doc["misc"]))

    def tell(self, key: int, loss: float | None, curve: Sequence[float] = ()) -> None:
        doc = next(doc for doc in self._trials._dynamic_trials if doc["tid"] == key)
        failed = {"status": self._base.STATUS_FAIL}
        doc["result"] = failed if loss is None else {"status": self._base.STATUS_OK, "loss": loss}
        doc["state"] = self._base.JOB_STATE_DONE
        self._trials.refresh()


class RaySearch:
    """Ray Tune's HyperOptSearch, without Ray.

    Args:
        space: Where to search.
        seed: random_state_seed.
    """

    def __init__(self, space: Space, seed: int) -> None:
        from ray.tune.search.hyperopt import HyperOptSearch

        logging.getLogger("hyperopt").setLevel(logging.ERROR)
        self._space = space
        self._search = HyperOptSearch(hyperopt_space(space), metric="loss", mode="min", random_state_seed=seed)
        self._asked = 0

    def ask(self) -> tuple[str, Config]:
        self._asked += 1
        key = f"t{self._asked}"
        with np.errstate(all="ignore"):
            config = self._search.suggest(trial_id=key)
        assert config is not None
        return key, from_labels(self._space, flat(config))

    def tell(self, key: str, loss: float | None, curve: Sequence[float] = ()) -> None:
        if loss is None:
            self._search.on_trial_complete(trial_id=key, error=True)
        else:
            self._search.on_trial_complete(trial_id=key, result={"loss": loss})


class Optuna:
    """An Optuna study with the sampler that it has by default.

    Args:
        space: Where to search.
        seed: The sampler's.
    """

    def __init__(self, space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._failed = optuna.trial.TrialState.FAIL
        self._space = space
        self._study = optuna.create_study(direction="minimize")
        self._study.sampler = type(self._study.sampler)(seed=seed)

    def ask(self) -> tuple[Any, Config]:
        trial = self._study.ask()
        config: Config = {}
        chosen: dict[str, int] = {}
        for leaf in self._space.leaves():
            if any(chosen.get(label) != index for label, index in leaf.conditions):
                continue
            value = _suggested(trial, leaf)
            if isinstance(leaf.domain, Choice):
                chosen[leaf.label] = value
            config[leaf.name] = _value(leaf, value)
        return trial, self._space.conform(config)

    def tell(self, key: Any, loss: float | None, curve: Sequence[float] = ()) -> None:
        if loss is None:
            self._study.tell(key, state=self._failed)
        else:
            self._study.tell(key, loss)


def _suggested(trial: Any, leaf: Leaf) -> Any:
    domain: Any = leaf.domain
    if isinstance(domain, Fixed):
        return None
    if isinstance(domain, Choice):
        return trial.suggest_categorical(leaf.label, range(len(domain.options)))
    suggest = trial.suggest_int if domain.integer else trial.suggest_float
    return suggest(leaf.label, domain.low, domain.high, log=domain.log)


def hyperopt_space(space: Space) -> dict[str, Any]:
    """Return a space as its user would write it for hyperopt; a name in several branches has a label in each."""
    return _branch(space.leaves(), ())


def _branch(leaves: Sequence[Leaf], conditions: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    own = (leaf for leaf in leaves if leaf.conditions == conditions and not isinstance(leaf.domain, Fixed))
    return {leaf.label: _node(leaf, leaves) for leaf in own}


def _node(leaf: Leaf, leaves: Sequence[Leaf]) -> Any:
    from hyperopt import hp
    from hyperopt.pyll import scope

    domain: Any = leaf.domain
    if isinstance(domain, Choice):
        if not any(domain.branches):
            return hp.choice(leaf.label, list(range(len(domain.options))))
        below = [_branch(leaves, (*leaf.conditions, (leaf.label, i))) for i in range(len(domain.options))]
        return hp.choice(leaf.label, [{"option": i, **branch} for i, branch in enumerate(below)])
    if domain.log:
        low, high = math.log(domain.low), math.log(domain.high)
        if domain.integer:
            return scope.int(hp.qloguniform(leaf.label, low, high, 1))
        return hp.loguniform(leaf.label, low, high)
    if domain.integer:
        return hp.uniformint(leaf.label, domain.low, domain.high)
    return hp.uniform(leaf.label, domain.low, domain.high)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested config of hyperopt's as label -> value, a choice's being the option's number."""
    found: dict[str, Any] = {}
    for label, value in config.items():
        if isinstance(value, Mapping):
            found |= {label: value["option"], **flat({k: v for k, v in value.items() if k != "option"})}
        else:
            found[label] = value
    return found


def from_labels(space: Space, values: Mapping[str, Any]) -> Config:
    """Return label -> value as a config of the space."""
    config: Config = {}
    chosen: dict[str, int] = {}
    for leaf in space.leaves():
        if any(chosen.get(label) != index for label, index in leaf.conditions):
            continue
        value = values.get(leaf.label)
        if isinstance(leaf.domain, Choice):
            chosen[leaf.label] = value = int(values[leaf.label])
        config[leaf.name] = _value(leaf, value)
    return space.conform(config)


def _value(leaf: Leaf, value: Any) -> Any:
    if isinstance(leaf.domain, Fixed):
        return leaf.domain.value
    if isinstance(leaf.domain, Choice):
        return leaf.domain.options[value]
    assert isinstance(leaf.domain, Numeric)
    return leaf.domain.snap(float(value))


PEERS: dict[str, Callable[[Space, int, int, int], Any]] = {
    "hyperopt.fmin tpe": lambda space, seed, trials, concurrency: Fmin("tpe", space, seed),
    "hyperopt.fmin anneal": lambda space, seed, trials, concurrency: Fmin("anneal", space, seed),
    "hyperopt.fmin rand": lambda space, seed, trials, concurrency: Fmin("rand", space, seed),
    "optuna.Study": lambda space, seed, trials, concurrency: Optuna(space, seed),
    "Ray HyperOptSearch": lambda space, seed, trials, concurrency: RaySearch(space, seed),
}
"""The competitors that are not this project's."""

SHARED = (hyperopt_space, _branch, _node, flat, from_labels, _value, _suggested)


def source(name: str) -> str:
    """Return the code that drives a competitor."""
    driver = {"hyperopt.fmin": Fmin, "optuna.Study": Optuna, "Ray": RaySearch}[name.split()[0]]
    return "".join(inspect.getsource(part) for part in (driver, *SHARED))


PACKAGES: dict[str, tuple[str, ...]] = {
    "hyperopt.fmin tpe": ("hyperopt",),
    "hyperopt.fmin anneal": ("hyperopt",),
    "hyperopt.fmin rand": ("hyperopt",),
    "optuna.Study": ("optuna",),
    "Ray HyperOptSearch": ("ray", "hyperopt"),
}
"""The packages that each is made of."""
