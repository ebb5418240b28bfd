"""A short, fixed-seed part of `make chaos`: sweeps killed and resumed end as those that nobody touched."""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))  # benchmarks/ is no installed package

from benchmarks.chaos import harness, starter
from benchmarks.chaos.checker import check
from benchmarks.chaos.harness import Chaos, EveryEpoch, Kill, Sweep, Untouched
from benchmarks.chaos.race import prepare, race
from benchmarks.chaos.scenarios import Scenario

SEED = 1
# One kill each at what must never come apart: the driver's first rows, an epoch and its checkpoint, the end of it all.
POINTS = {
    "random": (
        "after mkdir .#1",
        "after rename sweep.toml#1",
        "after commit sweep#1",
        "inside commit epoch+checkpoint#7",
        "before commit end#2",
        "after rename checkpoints/tN/N-N#9",
        "before unlink predictions/tN/N-N.npz#3",
        "before rename best#1",
    ),
    "hyperopt+asha": (
        "after commit suggestion+attempt#2",
        "before fsync checkpoints/tN/.N-N.writing/state.pt#3",
        "after commit epoch+checkpoint+stop+end#1",
        "before pwrite journal.mark#9",
    ),
    # Each stage, what it decides, and the one look at the test split.
    "study": (
        "before commit end#2",
        "after commit note.refine#1",
        "after commit note.cross_validate#1",
        "inside commit epoch+checkpoint+end#1",
        "after commit note.test_opened#1",
        "after commit note.test_scores#1",
        "before rename final#1",
        "after commit note.study#1",
    ),
}


@pytest.fixture(scope="module")
def warm():
    with harness.warm_starter() as starter:
        yield starter


@pytest.fixture(scope="module")
def untouched(warm, tmp_path_factory):
    """Each scenario's untouched sweep, run once for all tests."""
    known: dict[Scenario, Untouched] = {}

    def get(scenario: Scenario) -> Untouched:
        if scenario not in known:
            known[scenario] = harness.run_untouched(scenario, tmp_path_factory.mktemp("untouched"), warm)
        return known[scenario]

    return get


class Planned(Chaos):
    """A sweep whose kills are written down, instead of drawn."""

    plan: tuple[Kill, ...] = ()

    def _draw(self, rng):
        done = len(self.outcome.kills)
        return self.plan[done] if done < len(self.plan) else None

    def _round(self, kill, *, cold):
        # A study that starts cold imports for 5 s before it does anything; a sweep does, too, and in less.
        return super()._round(kill, cold=cold and not self.scenario.study)


def _at(text: str) -> Kill:
    name, _, count = text.partition("#")
    return Kill("process", name, int(count))


@pytest.mark.parametrize(
    "scenario",
    [Scenario("random"), Scenario("hyperopt", asha=True), Scenario("random", study=True)],
    ids=lambda s: s.name,
)
def test_a_sweep_killed_at_named_points_ends_as_if_nobody_had(scenario, warm, untouched, tmp_path):
    plan = [_at(text) for text in POINTS[scenario.name.split()[0]]]
    chaos = Planned(scenario, untouched(scenario), tmp_path / "sweep", warm, SEED, 0, most=len(plan))
    chaos.plan = tuple(plan)
    outcome = chaos.run()

    # Every kill really happened, or this proves nothing.
    assert len(outcome.kills) == len(plan), outcome
    assert outcome.verdict.problems == []


def test_a_sweep_killed_after_every_epoch_still_gets_on(warm, untouched, tmp_path):
    scenario = Scenario("random")
    outcome = EveryEpoch(scenario, untouched(scenario), tmp_path / "sweep", warm, SEED, 0, most=6).run()

    # Each of these lives was long enough for one epoch, and left it to the next: nothing was trained twice.
    assert len(outcome.kills) == 6
    assert outcome.verdict.problems == [] and outcome.verdict.figures["epochs run again"] == 0


@pytest.mark.parametrize("index", [1, 2])
def test_a_sweep_killed_at_random_ends_as_if_nobody_had(index, warm, untouched, tmp_path):
    scenario = Scenario("hyperopt", asha=True)
    outcome = Chaos(scenario, untouched(scenario), tmp_path / "sweep", warm, SEED, index, most=3).run()

    # These seeds kill at least once.
    assert outcome.kills
    assert outcome.verdict.problems == []


@pytest.mark.parametrize("hosts", [1, 2])
def test_of_two_drivers_at_once_exactly_one_proceeds(hosts, warm, untouched, tmp_path):
    scenario = Scenario("random")
    prepared = prepare(scenario, tmp_path / "prepared", warm)
    result = race(prepared, untouched(scenario), tmp_path / "race", warm, SEED, 0, hosts)
    # The other exits with 2 and names host, process and start; the sweep ends as if it had been alone.
    assert result.problems == []


def test_the_same_seed_draws_the_same_kills(untouched, tmp_path):
    scenario = Scenario("random")

    def draw():
        chaos = Chaos(scenario, untouched(scenario), tmp_path / "sweep", None, SEED, 7, most=9)
        return [str(chaos._draw(harness.random.Random(harness._derive(SEED, 7, turn)))) for turn in range(20)]

    # Else no failure could be replayed.
    assert draw() == draw()


def _lose_an_epoch(evidence):
    evidence.epochs.pop(3)


def _double_an_epoch(evidence):
    evidence.epochs.append(dict(evidence.epochs[0]))


def _lose_a_trial(evidence):
    evidence.trials.pop()


def _change_a_bit(evidence):
    evidence.epochs[5]["score"] = evidence.epochs[5]["score"] * (1 + 2**-52)


def _change_a_proposal(evidence):
    evidence.trials[2]["config.learning_rate"] *= 2


def _run_two_again(evidence):
    first = evidence.log[0]
    evidence.log.extend([{**first, "what": "begin", "epoch": 0}])


def _hide_an_attempt(evidence):
    evidence.trials[0]["attempts"] = 0


def _lose_the_model(evidence):
    del evidence.files["best/model.pt"]


def _open_twice(evidence):
    evidence.notes.append('{"test_opened":2}')


def _lose_a_note(evidence):
    evidence.notes.pop()


@pytest.mark.parametrize(
    ("spoil", "figure"),
    [
        (_lose_an_epoch, "rows lost"),
        (_double_an_epoch, "rows duplicated"),
        (_lose_a_trial, "configs lost"),
        (_change_a_bit, "metrics differ"),
        (_change_a_proposal, "proposals differ"),
        (_run_two_again, "too many run again"),
        (_hide_an_attempt, "attempts unaccounted"),
        (_lose_the_model, "files differ"),
        (_open_twice, "notes duplicated"),
        (_lose_a_note, "notes lost"),
    ],
)
def test_the_checker_sees_what_is_wrong(spoil, figure, untouched):
    good = replace(untouched(Scenario("random")).evidence, notes=['{"test_opened":1}', '{"test_scores":{}}'])
    bad = copy.deepcopy(good)
    # A checker that finds nothing in a spoilt sweep would find nothing in a lost one.
    assert check(good, bad, kills=1, concurrency=1, same=True).problems == []
    spoil(bad)
    assert check(good, bad, kills=1, concurrency=1, same=True).figures[figure] > 0


@pytest.mark.ray
@pytest.mark.slow  # test_ray_process.py kills a driver, and test_ray_tune.py workers, in sweeps of their own
def test_a_sweep_on_ray_survives_a_worker_and_its_driver(untouched, warm, tmp_path):
    """One Ray start for both kills: the resume is inline, since where a sweep runs must not matter either."""
    scenario = Scenario("random")
    expected = untouched(scenario)
    sweep = Sweep(replace(scenario, backend="ray"), tmp_path, None)
    sweep.file.write_text(scenario.text())  # with the pause that it has inline: a pause is a parameter
    first = sweep.start(sweep.arguments(), kill=_at("after commit epoch+checkpoint#12"))
    killed = False
    while first.poll() is None:
        victims = [] if killed else [pid for pid in sweep.executing() if pid in first.family()]
        killed = killed or any(map(starter.kill, victims))
        time.sleep(0.005)
    first.clean(10)
    sweep.scenario, sweep.warm = scenario, warm
    second = sweep.start(sweep.arguments())
    status = second.wait(120)
    # Both kills happened; the worker's death was retried without a resume.
    assert killed
    assert sweep.killed_itself(1)
    assert check(expected.evidence, sweep.export(status), kills=2, concurrency=1, same=True).problems == []
