"""The search benchmark: runs can be replayed, peers are driven as they drive themselves, statistics are right."""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks/ is no installed package

from benchmarks.search import __main__ as command
from benchmarks.search import runs, stopping
from benchmarks.search.claims import claims
from benchmarks.search.competitors import Ours, code_hash, competitors
from benchmarks.search.functions import DEFAULT, HELD_OUT
from benchmarks.search.peers import Fmin, Optuna, RaySearch, hyperopt_space
from benchmarks.search.record import TABLES
from benchmarks.search.runs import Job
from benchmarks.search.simulate import simulate
from benchmarks.search.statistics import concurrency_loss, critical_difference, failing_share, ranks
from benchmarks.search.table_tasks import DATA, Nearest, Row, table_names
from tuner import Choice, Space, Uniform
from tuner.stopping import Rule

NAMED = {task.name: task for task in (*DEFAULT, *HELD_OUT)}
PEERS = {
    "tpe": lambda space: Fmin("tpe", space, 1),
    "anneal": lambda space: Fmin("anneal", space, 1),
    "rand": lambda space: Fmin("rand", space, 1),
    "Optuna": lambda space: Optuna(space, 1),
    "Ray": lambda space: RaySearch(space, 1),
}


class Listed:
    """Proposes given configs, and keeps what it was told."""

    def __init__(self, configs):
        self.configs, self.told = list(configs), []

    def ask(self):
        return (len(self.configs), self.configs.pop(0)) if self.configs else None

    def tell(self, key, loss, curve=()):
        self.told.append(loss)


def random_search(task, seed=1, concurrency=1):
    return Ours("random", task.space, seed, 30, concurrency)


# --- simulated runs ---


@pytest.mark.parametrize("concurrency", [1, 4])
def test_equal_runs_are_equal(concurrency):
    task = NAMED["noisy"]
    one, other = (simulate(task, random_search(task), 1, 30, concurrency) for _ in range(2))
    assert (one.regrets, one.failed, one.seconds) == (other.regrets, other.failed, other.seconds)
    assert len(one.regrets) == len(one.failed) == 30


def test_four_workers_are_faster_and_random_search_finds_the_same():
    task = NAMED["ridge"]
    alone, four = (simulate(task, random_search(task), 1, 30, workers) for workers in (1, 4))
    assert alone.regrets[-1] == four.regrets[-1]
    assert four.seconds < alone.seconds / 3


def test_with_four_workers_results_are_told_in_the_order_of_their_ends():
    task = NAMED["crash_half"]
    configs = [{"a": i / 100, "b": 0.3} for i in range(12)]
    competitor = Listed(configs)
    simulate(task, competitor, 1, 12, 4)
    in_order = [task.evaluate(config).loss for config in configs]
    assert sorted(competitor.told) == sorted(in_order)
    assert competitor.told != in_order


def test_a_failure_is_told_as_none_and_regret_is_that_of_the_best_so_far():
    task = NAMED["crash_half"]
    competitor = Listed([{"a": 0.9, "b": 0.5}, {"a": 0.3, "b": 0.5}, {"a": 0.4, "b": 0.5}, {"a": 0.2, "b": 0.5}])
    run = simulate(task, competitor, 1, 10, 1)
    assert competitor.told[0] is None and run.failed == [True, False, False, False]
    assert run.regrets[1:] == pytest.approx([0.01, 0.01, 0.0])
    # Before anything succeeded, the regret is the worst of random configs', and not infinite.
    assert run.regrets[0] > run.regrets[1]


def test_noise_deceives_the_search_and_not_the_regret():
    task = NAMED["noisy"]
    configs = [task.best | {"x0": 0.7 + i / 100} for i in range(10)]
    run = simulate(task, Listed(configs), 1, 10, 1)
    # Of configs that are nearly alike the luckiest is chosen: its regret is the true one, and may rise again.
    assert all(any(math.isclose(regret, (i / 100) ** 2, abs_tol=1e-9) for i in range(10)) for regret in run.regrets)
    assert run.regrets[-1] > 0


def test_a_finite_space_ends_the_run():
    task = NAMED["finite"]
    run = simulate(task, Ours("random", task.space, 1, 100, 1), 1, 100, 1)
    assert len(run.failed) == 48 and run.regrets[-1] == 0


# --- competitors ---


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("task", ["conditional", "nested", "crash_rate"])
def test_a_peer_proposes_configs_of_the_space(peer, task):
    task = NAMED[task]
    competitor = PEERS[peer](task.space)
    for _ in range(24):  # beyond each peer's random start
        key, config = competitor.ask()
        assert task.space.contains(config)
        competitor.tell(key, task.evaluate(config).loss)


@pytest.mark.parametrize("algorithm", ["tpe", "anneal", "rand"])
def test_fmin_is_driven_as_it_drives_itself(algorithm):
    import hyperopt

    task = NAMED["crash_half"]
    proposed = []

    def evaluate(config):
        proposed.append(dict(config))
        loss = task.evaluate(config).loss
        return {"status": "fail"} if loss is None else {"status": "ok", "loss": loss}

    hyperopt.fmin(
        evaluate,
        hyperopt_space(task.space),
        algo=getattr(hyperopt, algorithm).suggest,
        max_evals=30,
        rstate=np.random.default_rng(5),
        verbose=False,
        show_progressbar=False,
    )
    competitor, own = Fmin(algorithm, task.space, 5), []
    for _ in range(30):
        key, config = competitor.ask()
        own.append(config)
        competitor.tell(key, task.evaluate(config).loss)
    assert own == [task.space.conform(config) for config in proposed]


def test_ours_tells_pending_failed_and_done():
    competitor = Ours("random", NAMED["crash_half"].space, 1, 10, 2)
    keys = [competitor.ask()[0] for _ in range(3)]
    competitor.tell(keys[0], None)
    competitor.tell(keys[2], 0.5)
    assert [(o.state, o.loss) for o in competitor._history] == [("failed", None), ("pending", None), ("done", 0.5)]


def test_a_hash_depends_on_the_competitors_own_code():
    hashes = {name: code_hash(name) for name in competitors()}
    assert hashes["random"] != hashes["hyperopt"]
    assert hashes == {name: code_hash(name) for name in competitors()}


# --- tables ---


def small_table():
    space = Space.parse(
        {"optimizer": Choice(["sgd", "adam"], when={"sgd": {"rate": Uniform(0, 1)}}), "x": Uniform(0, 1)}
    )
    configs = [{"optimizer": "sgd", "rate": i / 9, "x": (i * 7 % 10) / 9} for i in range(10)]
    configs += [{"optimizer": "adam", "x": i / 9} for i in range(10)]
    return space, [Row(config, (config.get("rate", 2.0),), False, 1.0) for config in configs]


def test_a_recorded_config_is_its_own_nearest():
    space, rows = small_table()
    nearest = Nearest(space, rows)
    assert [nearest.index(row.config) for row in rows] == list(range(20))


def test_the_nearest_is_of_the_same_branch_and_by_what_matters():
    space, rows = small_table()
    nearest = Nearest(space, rows)
    rng = random.Random(1)
    for _ in range(200):
        config = space.sample(rng)
        found = rows[nearest.index(config)].config
        assert found["optimizer"] == config["optimizer"]
        if "rate" in config:  # the loss is the rate: a config is told by it, not by x
            assert abs(found["rate"] - config["rate"]) < 0.2


def test_the_recorded_tables_are_what_their_sweeps_made():
    names = table_names()
    assert names, "there must be recorded tables"
    for name in names:
        path = DATA / f"{name}.parquet"
        facts = json.loads(path.with_suffix(".json").read_text())
        frame = pd.read_parquet(path)
        assert path.stat().st_size < 1_000_000
        assert frame["trial"].nunique() == facts["trials"] >= 300
        assert frame["epoch"].max() == facts["max_epochs"] == 20
        assert hashlib.sha256((TABLES / f"{name}.toml").read_bytes()).hexdigest() == facts["sweep_sha256"]
        whole = frame[frame["status"] == "completed"].groupby("trial")["epoch"].count()
        assert (whole == 20).all()


# --- stopping rules ---


class StopAll(Rule):
    """Stops every trial at its first epoch."""

    name = "stop_all"

    def decide(self, curves, trial, epoch, max_epochs):
        return "enough"


def test_without_rules_everything_is_trained_and_the_winner_found():
    curves = stopping.made(trials=12)[0]
    told = stopping.measure([], 3, curves)
    assert told["points_lost"] == [0, 0, 0] and told["epochs_share"] == [1, 1, 1]
    assert told["winner_kept"] == told["within_half_a_point"] == 3


def test_a_rule_that_stops_all_trains_one_epoch_each_and_loses_points():
    curves = stopping.made(trials=12)[0]
    run = stopping.replay(curves, [StopAll()], seed=1)
    assert run.epochs == 12 and not run.winner_kept
    assert curves.points(run.best) > 10


def test_a_failed_trial_cannot_win():
    rows = [Row({}, (0.1,), True, 1.0), Row({}, (0.5, 0.4), False, 1.0)]
    curves = stopping.Curves("failing", rows, 2, lambda loss: 100 * (loss - 0.4))
    assert stopping.replay(curves, [], seed=1).best == 0.4


def test_the_made_curves_are_what_they_say():
    untrained, crossing = ([list(row.curve) for row in curves.rows] for curves in stopping.made())
    first, last = [c[0] for c in untrained], [c[-1] for c in untrained]
    assert np.corrcoef(first, last)[0, 1] < 0
    assert np.corrcoef([c[2] for c in untrained], last)[0, 1] > 0.8
    assert np.corrcoef([c[0] for c in crossing], [c[-1] for c in crossing])[0, 1] < -0.8


# --- statistics ---


def test_the_critical_difference_is_the_papers():
    # Demsar 2006, section 3.2.2: four classifiers on fourteen data sets, q = 2.569.
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)


def of(values):
    """Return regrets of two seeds that stay as they are for three trials."""
    return np.array([[values] * 3, [values] * 3], float)


def test_ranks_are_by_the_median_of_each_task_and_ties_share():
    regrets = {("t1", "a", 1): of(1), ("t1", "b", 1): of(2), ("t1", "c", 1): of(3)}
    regrets |= {("t2", "a", 1): of(1), ("t2", "b", 1): of(1), ("t2", "c", 1): of(3)}
    told = ranks(regrets, ["t1", "t2"], ["a", "b", "c"], 1, 3)
    assert told.mean == {"a": 1.25, "b": 1.75, "c": 3.0}
    assert 0 < told.p < 1


def test_what_concurrency_costs_is_a_share_of_the_improvement():
    regrets = {("t", "random", 1): of(1.0), ("t", "a", 1): of(0.2), ("t", "a", 4): of(0.4)}
    assert concurrency_loss(regrets, ["t"], "a", 3, 4) == pytest.approx(0.25)


def test_the_failing_share_is_of_trials_20_to_59():
    failed = [True] * 20 + [True] * 10 + [False] * 30 + [True] * 40
    assert failing_share([failed]) == 0.25


# --- all of it ---


def test_runs_are_kept_and_not_made_again(tmp_path):
    jobs = [Job("finite", "random", seed, 1, 10) for seed in (1, 2)]
    made = runs.run_all(jobs, 1, tmp_path, quiet=True)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(files) == 2
    again = runs.run_all([*jobs, Job("finite", "random", 3, 1, 10)], 1, tmp_path, quiet=True)
    assert all(path.stat().st_mtime_ns == at for path, at in files.items())
    assert len(list(tmp_path.rglob("*.json"))) == 3
    assert all(again[job].regrets == made[job].regrets for job in jobs)


def test_the_command_writes_json_and_figures(tmp_path, capsys):
    out = tmp_path / "found.json"
    chosen = [
        "--competitors",
        "random",
        "hyperopt.fmin rand",
        "hyperopt.fmin anneal",
        "--tasks",
        "levy4",
        "crash_corner",
    ]
    sizes = ["--held-out", "--concurrency", "1", "--seeds", "2", "--trials", "60", "--cache", str(tmp_path / "cache")]
    command.main([*chosen, *sizes, "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["facts"]["versions"]["hyperopt"] and found["facts"]["seeds"] == 2
    assert set(found["ranks"]) == {"1"}
    assert found["failing"]["crash_corner"]["random"] > 0.1
    assert {path.name for path in out.with_suffix("").iterdir()} == {"regret_1.png", "ranks.png"}
    assert "mean rank at" in capsys.readouterr().out


def test_claims_tell_what_holds_and_what_does_not():
    found = {
        "competitors": ["auto", "random", "hyperopt.fmin tpe"],
        "facts": {"trials": 100, "concurrency": [1, 4]},
        "ranks": {"1": {"100": {"mean": {"auto": 2.2, "gp": 1.9, "random": 3.4, "hyperopt.fmin tpe": 2.5}}}},
        "ranks_among_tools": {"100": {"mean": {"auto": 1.4, "hyperopt.fmin tpe": 1.6}}},
        "median_regret": {"auto": {"1": {"100": 0.08}}, "hyperopt.fmin tpe": {"1": {"100": 0.1}}},
        "mean_regret": {"auto": {"1": {"20": 0.3}}, "random": {"1": {"20": 0.4}}},
        "against_random": {"auto": {"worse_than_upper_quartile": ["plateau"], "lost_to_concurrency": 0.1}},
        "failing": {"crash_half": {"auto": 0.11}},
    }
    told = {claim["text"].split(":")[0]: claim["holds"] for claim in claims(found)}
    assert told == {
        "auto has the best mean rank at 100 trials of the default and the other tools": True,
        "auto has the best mean rank at 100 trials of all, this project's other strategies included": False,
        "auto's median final regret is at least 25 % below hyperopt.fmin tpe's": False,
        "auto is on no task worse than random's upper quartile": False,
        "auto is better than random on average at 20 trials": True,
        "auto loses at most 15 % of its improvement over random with 4 workers": True,
        "crash_half": False,
    }
