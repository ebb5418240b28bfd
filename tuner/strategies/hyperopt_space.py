"""A compiled space and its trials in hyperopt's own form, for its algorithms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from tuner.space import Choice, Leaf, Numeric
from tuner.strategies.compiled import Compiled, Latent
from tuner.strategies.modelled import Told


class HyperoptSpace:
    """What hyperopt sees: every number on the scale on which it is uniform, every choice by index, branches below it.

    Args:
        compiled: The space.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled

    @cached_property
    def _domain(self) -> Any:
        import hyperopt  # slow: 1 s, paid by the first proposal that needs it

        return hyperopt.Domain(None, _expression(self._compiled, ()))

    def suggest(self, algorithm: Callable[..., Any], told: Sequence[Told], number: int, seed: int) -> Latent:
        """Return the numbers that one of hyperopt's algorithms proposes.

        Args:
            algorithm: Called as hyperopt's suggest functions are: (new_ids, domain, trials, seed).
            told: What is known of each trial.
            number: The new trial's id.
            seed: For this proposal alone.
        """
        import hyperopt
        import numpy as np

        labels = [leaf.label for leaf in self._compiled.leaves]
        docs = [_document(tid, labels, each.numbers, each.loss) for tid, each in enumerate(told)]
        trials = hyperopt.trials_from_docs(docs, validate=False)
        with np.errstate(all="ignore"):  # log(0) where an option was never seen, and the like: ranks all the same
            suggested = algorithm([number], self._domain, trials, seed)
        found = suggested[0]["misc"]["vals"]
        return {label: float(values[0]) for label, values in found.items() if len(values)}


def _expression(compiled: Compiled, conditions: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    """Return hyperopt's form of the leaves under these conditions, and of all below them."""
    return {leaf.label: _node(compiled, leaf) for leaf in compiled.leaves if leaf.conditions == conditions}


def _node(compiled: Compiled, leaf: Leaf) -> Any:
    from hyperopt import hp

    domain = leaf.domain
    if isinstance(domain, Numeric):
        return hp.uniform(leaf.label, *domain.latent)
    if not isinstance(domain, Choice):
        raise TypeError(f"{type(domain).__name__} is neither a number nor a choice")
    branches = [_expression(compiled, (*leaf.conditions, (leaf.label, index))) for index in compiled.options(leaf)]
    if domain.weights is None or len(branches) == 1:
        return hp.choice(leaf.label, branches)
    return hp.pchoice(leaf.label, list(zip(compiled.weights(leaf), branches, strict=True)))


def _document(tid: int, labels: Sequence[str], numbers: Latent, loss: float) -> dict[str, Any]:
    """Return a finished trial as hyperopt keeps it; a leaf that is not active has an empty list."""
    values = {label: [numbers[label]] if label in numbers else [] for label in labels}
    idxs = {label: [tid] if value else [] for label, value in values.items()}
    return {
        "tid": tid,
        "state": 2,  # hyperopt.JOB_STATE_DONE
        "spec": None,
        "result": {"status": "ok", "loss": loss},
        "misc": {"tid": tid, "cmd": None, "workdir": None, "idxs": idxs, "vals": values},
        "exp_key": None,
        "owner": None,
        "version": 0,
        "book_time": None,
        "refresh_time": None,
    }
