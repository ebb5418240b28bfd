"""optuna's samplers; needs the extra `optuna`."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import random
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from typing import Any, ClassVar

from tuner.errors import Problem, SweepError, nearest
from tuner.space import Numeric, Space, derive_seed
from tuner.strategies.base import Config
from tuner.strategies.compiled import Compiled, Latent, is_active
from tuner.strategies.modelled import Modelled, Told
from tuner.strategies.options import OptunaOptions

# What these know of earlier trials is not in the trials alone: it is what they noted when they were asked for them.
# The same is taken to hold for a sampler from elsewhere.
REPLAYED = ("CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "QMCSampler")
START = "n_startup_trials"  # search.initial_random says it
SEED = "seed"  # the sweep's
TRIED = 4  # made-up trials with which a sampler's options are tried


class OptunaSampler(Modelled):
    """One of optuna's samplers, asked about a study that is made from the history, each time anew.

    optuna suggests the numbers of the compiled space, a parameter after the other, those of the branches that it chose.
    It knows no weights of options, but for those of weight 0, which it does not see.

    A sampler that keeps notes of its own on a study (a covariance matrix, generations) is asked for all trials of the
    history again, one after another, each with a seed of its own; so its proposals, too, follow from the history alone,
    but each takes time in proportion to its length.

    Args:
        space: Where to search.
        seed: The sweep's seed; each proposal has one of its own.
        initial_random: Random configs after the points, before a sampler that has n_startup_trials takes over.
        points: Configs to begin with.
        options: Its table in a sweep file.

    Raises:
        SweepError: optuna is not installed, or the sampler does not take its options, or cannot work with them.
    """

    name = "optuna"
    tries: ClassVar[int] = 6

    def __init__(
        self,
        space: Space,
        seed: int,
        initial_random: int,
        points: Iterable[Config] = (),
        options: OptunaOptions = OptunaOptions(),  # noqa: B008 - frozen
    ) -> None:
        self._class = _sampler_class(options.sampler)
        self._arguments = inspect.signature(self._class).parameters
        super().__init__(space, seed, initial_random if START in self._arguments else 0, points)
        self._options = options
        self._trials: dict[int, tuple[Told, Any]] = {}  # a memo, by the identity of the numbers
        self.model = f"optuna's {options.sampler}"  # type: ignore[misc]
        self._check()

    def _check(self) -> None:
        """Refuse options that the sampler does not take, or cannot work with."""
        key, options = "search.optuna.options", self._options.options
        valid = [name for name in self._arguments if name not in (START, SEED) and self._is_plain(name)]
        problems = [self._refusal(key, name, valid) for name in options if name not in valid]
        if not problems:
            try:
                self._try()
            except Exception as error:  # whatever optuna says of a value
                said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
                problems.append(Problem(key, f"{self._options.sampler} does not take these: {said}", str(options)))
        if problems:
            raise SweepError("the sweep", problems)

    def _try(self) -> None:
        """Ask the sampler once, about made-up trials: it looks at most of its options only then."""
        self._sampler(0)
        if self._options.options and self._compiled.leaves:  # its own defaults need no trial, which may take a second
            made_up = [self._compiled.encode(self.space.sample(random.Random(seed))) for seed in range(TRIED)]
            told = [Told(numbers, float(loss), "done") for loss, numbers in enumerate(made_up) if numbers is not None]
            self._suggest(told, len(told), 0, 0, set())

    def _is_plain(self, name: str) -> bool:
        """Return whether an option of the sampler is a value, not a function or an object."""
        return not re.search(r"Callable|Base\w+|FrozenTrial|ndarray", str(self._arguments[name].annotation))

    def _refusal(self, key: str, name: str, valid: Sequence[str]) -> Problem:
        if name in self._arguments and name not in (START, SEED):
            rule = "the sampler takes a function or an object there, which a sweep file cannot hold"
            return Problem(f"{key}.{name}", rule, remedy="Leave it out.")
        said = {START: "search.initial_random says it; write it there.", SEED: "It is the sweep's own: sweep.seed."}
        return Problem(f"{key}.{name}", "the sampler has no such option", remedy=said.get(name) or nearest(name, valid))

    def _sampler(self, seed: int) -> Any:
        arguments: dict[str, Any] = dict(self._options.options)
        if SEED in self._arguments:
            # The scrambling of a quasi-random sequence is the sweep's; all others are seeded for each proposal.
            own = derive_seed(self.seed, self.name) if self._options.sampler == "QMCSampler" else seed
            arguments[SEED] = own % 2**32
        if START in self._arguments:
            arguments[START] = 1
        with _quiet():
            return self._class(**arguments)

    def _suggest(self, told: Sequence[Told], number: int, seed: int, attempt: int, seen: set[str]) -> Config:
        import optuna

        with _quiet():
            study = optuna.create_study(sampler=self._sampler(seed))
            if self._options.sampler in REPLAYED or ":" in self._options.sampler:
                for place, each in enumerate(told):
                    study.sampler = self._sampler(derive_seed(self.seed, self.name, "replay", place))
                    study.enqueue_trial(each.numbers)
                    trial = study.ask()
                    _ = trial.relative_params  # where a sampler takes its notes; the trial's own numbers are given
                    suggested(self._compiled, trial)
                    study.tell(trial, each.loss)
                study.sampler = self._sampler(seed)
            else:
                study.add_trials([self._trial(each) for each in told])
            return self._compiled.decode(suggested(self._compiled, study.ask()))

    @functools.cached_property
    def _distributions(self) -> dict[str, Any]:
        import optuna

        return {
            leaf.label: optuna.distributions.FloatDistribution(*leaf.domain.latent)
            if isinstance(leaf.domain, Numeric)
            else optuna.distributions.CategoricalDistribution(range(len(self._compiled.options(leaf))))
            for leaf in self._compiled.leaves
        }

    def _trial(self, told: Told) -> Any:
        before, trial = self._trials.get(id(told.numbers), (None, None))
        # A loss may change: that of a failure is worse than the worst so far.
        if before is None or before.numbers is not told.numbers or before.loss != told.loss:
            trial = _trial(told, self._distributions)
            self._trials[id(told.numbers)] = told, trial
        return trial


def _sampler_class(name: str) -> Any:
    """Return a class of optuna.samplers, or the one that "module:Class" names.

    Raises:
        SweepError: A package is not installed, or there is no such class, or it is no sampler.
    """
    lacking = ["optuna", *(["cmaes"] if name == "CmaEsSampler" else []), *(["torch"] if name == "GPSampler" else [])]
    for package in lacking:
        if find_spec(package) is None:
            rule = f"optuna's {name} needs the package {package}, which is not installed"
            extra = "'cnn-tuner[optuna]'" if package == "optuna" else package
            remedy = f"Install it: pip install {extra}. Or choose another strategy."
            raise SweepError("the sweep", [Problem("search.strategy", rule, remedy=remedy)])
    import optuna

    return _foreign(name) if ":" in name else getattr(optuna.samplers, name)


def _foreign(name: str) -> type:
    import optuna

    module, _, title = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), title)
    except Exception as error:  # whatever a module does when it is imported
        raise _unusable(f"cannot be loaded: {type(error).__name__}: {error}", name) from error
    if not (inspect.isclass(found) and issubclass(found, optuna.samplers.BaseSampler)):
        raise _unusable("it must be a class derived from optuna.samplers.BaseSampler", name)
    return found


def _unusable(rule: str, name: str) -> SweepError:
    return SweepError("the sweep", [Problem("search.optuna.sampler", rule, name)])


def suggested(compiled: Compiled, trial: Any) -> Latent:
    """Return the numbers that an optuna trial suggests, branch by branch."""
    numbers: Latent = {}
    chosen: dict[str, int] = {}
    for leaf in compiled.leaves:
        if not is_active(leaf, chosen):
            continue
        if isinstance(leaf.domain, Numeric):
            numbers[leaf.label] = trial.suggest_float(leaf.label, *leaf.domain.latent)
        else:
            options = compiled.options(leaf)
            numbers[leaf.label] = trial.suggest_categorical(leaf.label, range(len(options)))
            chosen[leaf.label] = options[int(numbers[leaf.label])]
    return numbers


@functools.cache
def _frozen() -> Any:
    """Return a class of optuna's trials that are over, of which a study keeps a shallow copy.

    A study copies every trial that it is given to the bottom, which takes three quarters of the time of a proposal.
    Nobody writes to these, so what they hold can be shared.
    """
    import optuna

    class Frozen(optuna.trial.FrozenTrial):
        def __deepcopy__(self, memo: Any) -> Any:
            return copy.copy(self)

    return Frozen


def _trial(told: Told, known: Mapping[str, Any]) -> Any:
    """Return a trial that is over, as optuna has it; its parameters have these distributions."""
    import optuna

    distributions = {label: known[label] for label in told.numbers}
    now = datetime.now()
    return _frozen()(
        number=-1,
        trial_id=-1,
        state=optuna.trial.TrialState.COMPLETE,
        value=told.loss,
        datetime_start=now,
        datetime_complete=now,
        params=_inside(told.numbers, distributions),
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _inside(numbers: Mapping[str, float], distributions: Mapping[str, Any]) -> dict[str, float]:
    """Return numbers that lie within their distributions, which rounding may miss by a hair."""
    return {
        label: min(max(value, distributions[label].low), distributions[label].high)
        if hasattr(distributions[label], "low")
        else value
        for label, value in numbers.items()
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep optuna from saying that a study was made, and that an option is experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
