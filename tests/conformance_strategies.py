"""What every strategy must hold. A strategy of one's own inherits it:

from conformance_strategies import StrategyConformance

class TestMine(StrategyConformance):
    strategy = "mine"          # a name in tuner.strategies.STRATEGIES; or override `make`
"""

import copy
import functools
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from inspect import getfile
from pathlib import Path

import pytest

from tuner.space import Choice, Int, LogUniform, Space, Uniform
from tuner.spec import Sweep
from tuner.strategies import Observation, make_strategy
from tuner.strategies.modelled import Modelled


def train(config, trial):
    """A trainable that is never called."""


def sweep(space, *, defaults=None, **search):
    return Sweep(
        trainable=train,
        metric="loss",
        mode="min",
        space=space,
        search=search,
        defaults=defaults or {},
        seed=search.pop("seed", 0),
    )


# Every kind of domain that all strategies can cut; conditional, nested, with the same name in two branches.
MIXED = {
    "optimizer": Choice(
        ["sgd", "adam"],
        when={
            "sgd": {
                "learning_rate": LogUniform(1e-3, 1.0, points=2),
                "nesterov": Choice([True, False], when={True: {"momentum": Uniform(0.5, 0.9, points=2)}}),
            },
            "adam": {"learning_rate": LogUniform(1e-5, 1e-2, points=2)},
        },
    ),
    "kernel": Choice([[3, 3], [5, 5]]),
    "layers": Int(1, 5, points=2),
    "dropout": Uniform(0.0, 0.5, step=0.25, points=3),
    "epochs": 3,
    "schedule": [[1, 0.1], [5, 0.01]],
}
MIXED_DEFAULTS = {
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "nesterov": True,
    "momentum": 0.9,
    "kernel": [3, 3],
    "layers": 3,
    "dropout": 0.25,
}
# 12 configs
FINITE = {"a": Choice([1, 2]), "b": Int(1, 3, points=3), "c": Choice(["x", "y"])}
FINITE_DEFAULTS = {"a": 1, "b": 2, "c": "y"}


def square(config):
    """A loss that prefers few layers, without caring for the rest."""
    return (config.get("layers", 0) - 2) ** 2 + config.get("dropout", 0.0)


def drive(strategy, count, loss=square, history=()):
    """Ask `count` times, one trial after another; return the proposals (fewer where it ends)."""
    history, proposals = list(history), []
    for _ in range(count):
        proposal = strategy.ask(history)
        if proposal is None:
            break
        proposals.append(proposal)
        history.append(Observation(len(history) + 1, proposal.config, "done", loss(proposal.config), proposal.by))
    return proposals


def observed(proposals):
    return [Observation(index, p.config, "done", square(p.config), p.by) for index, p in enumerate(proposals, start=1)]


def lose(observation, loss):
    return Observation(observation.index, observation.config, "lost", loss)


def keys(proposals):
    return [json.dumps(proposal.config, sort_keys=True) for proposal in proposals]


def replay(suites):
    """Print what the strategy of each suite proposes; called in a process of its own."""
    proposed = {}
    for path, name in suites:
        spec = spec_from_file_location("suite", path)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        proposed[f"{path}:{name}"] = keys(drive(getattr(module, name)().mixed(), 10))
    print(json.dumps(proposed))


@functools.cache
def elsewhere():
    """Return what `replay` prints for every suite that this process knows: one other process serves them all."""
    suites = [(getfile(suite), suite.__name__) for suite in StrategyConformance.__subclasses__()]
    paths = [str(Path(__file__).parent), *sys.path]
    # Another hash seed, so that nothing may depend on the order of a set.
    environ = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(paths)}
    code = f"import conformance_strategies as c; c.replay({suites!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class StrategyConformance:
    """What every strategy must hold; subclasses name the strategy."""

    strategy = ""

    def make(self, space, defaults, **search):
        """Return the strategy for a space."""
        return make_strategy(sweep(space, defaults=defaults, strategy=self.strategy, **search))

    def mixed(self, **search):
        return self.make(MIXED, MIXED_DEFAULTS, **{"trials": 14, **search})

    def finite(self, **search):
        return self.make(FINITE, FINITE_DEFAULTS, **{"trials": 12, **search})

    @classmethod
    @functools.cache
    def driven(cls):
        """Return 14 proposals for MIXED, one trial after another; several tests look at them."""
        return drive(cls().mixed(), 14)

    def test_the_same_in_another_process(self):
        assert elsewhere()[f"{getfile(type(self))}:{type(self).__name__}"] == keys(self.driven()[:10])

    def test_pure(self):
        strategy = self.mixed()
        history = []
        for index in range(1, 8):
            before = copy.deepcopy(history)
            proposal = strategy.ask(history)
            # asked again it says the same, a fresh one (after a resume) too, and the history is left alone
            assert strategy.ask(history) == proposal
            assert history == before
            if proposal is None:
                break
            if index in (1, 7):
                assert self.mixed().ask(copy.deepcopy(history)) == proposal
            history.append(Observation(index, proposal.config, "done", square(proposal.config)))

    def test_what_it_was_asked_before_leaves_nothing_behind(self):
        # a driver asks one strategy about a history that changes; a resume asks a fresh one about the last
        strategy, history = self.mixed(), observed(self.driven()[:9])
        other = [Observation(o.index, o.config, "done", -o.loss) for o in history]
        for asked in (history[:4], other, [], history[:7]):
            strategy.ask(asked)

        assert strategy.ask(history) == self.mixed().ask(history) == self.driven()[9]

    def test_lost_trials_teach_nothing(self):
        # whatever loss might stand there
        told = observed(self.driven()[:9])
        lost, with_loss = ([*told[:6], *(lose(o, loss) for o in told[6:])] for loss in (None, -1e9))

        assert self.mixed().ask(lost) == self.mixed().ask(with_loss)

    def test_proposals_lie_inside_the_space(self):
        space = Space.parse(MIXED)

        for proposal in self.driven():
            assert space.explain(proposal.config) == []
            assert space.contains(proposal.config)

    def test_branches_follow_their_choice(self):  # trap 3
        common = {"optimizer", "kernel", "layers", "dropout", "epochs", "schedule"}
        branches = {
            ("adam", None): {"learning_rate"},
            ("sgd", True): {"learning_rate", "nesterov", "momentum"},
            ("sgd", False): {"learning_rate", "nesterov"},
        }

        for proposal in self.driven():
            config = proposal.config
            assert set(config) == common | branches[config["optimizer"], config.get("nesterov")]

    def test_values_come_out_exactly_as_written(self):  # trap 5
        kinds = {
            "optimizer": str,
            "learning_rate": float,
            "nesterov": bool,
            "momentum": float,
            "kernel": list,
            "layers": int,
            "dropout": float,
            "epochs": int,
            "schedule": list,
        }

        for proposal in self.driven():
            # exact types: an np.float64 is a float, but not exactly
            assert {name: type(value) for name, value in proposal.config.items()} == {
                name: kinds[name] for name in proposal.config
            }
            assert [type(value) for value in proposal.config["kernel"]] == [int, int]

    def test_a_changed_config_changes_nothing_else(self):
        strategy = self.mixed()
        first = strategy.ask([])
        kept = copy.deepcopy(first)

        # what a careless trainable may do to the lists of its config
        first.config["kernel"].append(99)
        first.config["schedule"].clear()

        assert strategy.ask([]) == kept

    def test_points_come_first(self):  # trap 4: a conditional point, and a list as a value
        points = [
            {"optimizer": "adam", "learning_rate": 0.001, "kernel": [5, 5], "layers": 2, "dropout": 0.5},
            {**MIXED_DEFAULTS, "nesterov": False, "layers": 1, "learning_rate": 0.5},
        ]
        points[1].pop("momentum")

        proposals = drive(self.mixed(points=points), 8)

        # fixed values are filled in, and the points never come again
        fixed = {"epochs": 3, "schedule": [[1, 0.1], [5, 0.01]]}
        assert [p.config for p in proposals[:2]] == [point | fixed for point in points]
        assert [p.by for p in proposals[:2]] == ["points", "points"]
        assert len(set(keys(proposals))) == len(proposals)

    def test_no_config_twice_until_exhausted(self):  # trap 7
        strategy = self.finite()

        proposals = drive(strategy, 40)

        assert len(set(keys(proposals))) == len(proposals)
        # then it ends, as announced
        assert strategy.total == len(proposals)

    def test_lost_trials_are_not_proposed_again(self):
        strategy = self.finite()
        history = []
        while (proposal := strategy.ask(history)) is not None:
            history.append(Observation(len(history) + 1, proposal.config, "lost"))

        assert len(history) == strategy.total

    def test_what_was_known_before_teaches_and_is_not_proposed(self):
        before = [replace(o, index=o.index - 14, earlier=True) for o in observed(self.driven())]

        proposals = drive(self.mixed(), 3, history=before)

        assert not set(keys(proposals)) & set(keys(self.driven()))
        # a fresh one says the same, and a model needs no start of its own
        assert self.mixed().ask(before) == (proposals[0] if proposals else None)
        if isinstance(self.mixed(), Modelled):
            assert len(proposals) == 3
            assert "from before this search" in proposals[0].why
            assert all(proposal.by != "random start" for proposal in proposals)

    def test_a_known_point_is_not_proposed_and_what_is_known_is_no_trial_of_this_search(self):
        first = drive(self.finite(), 4)
        before = [replace(o, index=o.index - len(first), earlier=True) for o in observed(first)]

        rest = drive(self.finite(points=[first[0].config]), 40, history=before)

        # all others come, though the limit of trials is no more than all
        assert len(set(keys([*first, *rest]))) == len(first) + len(rest) == self.finite().total

    @pytest.mark.parametrize(
        ("state", "loss"),
        [
            ("failed", None),
            ("done", math.nan),
            ("done", math.inf),
            ("done", -math.inf),
            ("done", None),
            ("done", 1e308),
            ("done", 0.0),
            ("lost", None),
            ("pending", None),
        ],
    )
    def test_bad_news_is_survived(self, state, loss):
        space = Space.parse(MIXED)
        strategy = self.mixed()
        alone, among = [], []
        for index in range(1, 6):
            # all of the history like this
            proposal = strategy.ask(alone)
            assert space.contains(proposal.config)
            alone.append(Observation(index, proposal.config, state, loss))
            # every other one
            proposal = strategy.ask(among)
            assert space.contains(proposal.config)
            good = Observation(index, proposal.config, "done", square(proposal.config))
            among.append(good if index % 2 else Observation(index, proposal.config, state, loss))

    @pytest.mark.parametrize("concurrency", [2, 4])
    def test_pending_trials_are_not_proposed_again(self, concurrency):
        strategy = self.finite()
        history = []
        while (proposal := strategy.ask(history)) is not None:
            history.append(Observation(len(history) + 1, proposal.config, "pending"))
            if len(history) >= concurrency:
                # the one that was started first ends
                index = len(history) - concurrency
                done = history[index]
                history[index] = Observation(done.index, done.config, "done", square(done.config))

        configs = [json.dumps(observation.config) for observation in history]
        assert len(set(configs)) == len(configs) == strategy.total

    def test_a_space_of_constants_has_one_config(self):  # trap 6
        strategy = self.make({"learning_rate": 0.1, "sizes": [1, 2]}, {"learning_rate": 0.1}, trials=5)

        assert [p.config for p in drive(strategy, 5)] == [{"learning_rate": 0.1, "sizes": [1, 2]}]
        assert strategy.total == 1

    def test_quiet(self, capfd, caplog):
        caplog.set_level("DEBUG")

        drive(self.mixed(), 10)

        assert capfd.readouterr() == ("", "")
        assert not caplog.records

    def test_every_proposal_says_who_and_why(self):
        for proposal in self.driven():
            assert proposal.by
            assert proposal.why
            assert "\n" not in proposal.why
        assert "\n" not in self.mixed().note
