"""Sweeps on a real cluster of three nodes, of which some die, vanish for a while, or come later."""

from __future__ import annotations

import time

import pytest

from benchmarks.chaos.checker import check

pytestmark = pytest.mark.cluster


def hosts(evidence):
    """Host -> how many trials ended there."""
    where = [row["worker"].partition(":")[0] for row in evidence.trials]
    return {host: where.count(host) for host in where}


def untroubled(evidence, trials, epochs):
    """Nothing lost, nothing twice, nothing failed."""
    verdict = check(evidence, evidence, kills=2, concurrency=3, same=False)
    assert verdict.problems == []
    assert evidence.status == 0
    assert [row["status"] for row in evidence.trials] == ["completed"] * trials
    assert len(evidence.epochs) == trials * epochs


def side_by_side(log):
    """The most trials that were between an epoch's start and its end at the same moment."""
    most, now = 0, set()
    for line in log:
        (now.add if line["what"] == "start" else now.discard)(line["number"])
        most = max(most, len(now))
    return most


def test_three_nodes_of_one_core_train_three_trials_side_by_side(cluster):
    cluster.with_workers(2)
    evidence = cluster.start("parallel", concurrent=None).evidence()
    untroubled(evidence, 6, 4)
    assert len(hosts(evidence)) == 3
    assert side_by_side(evidence.log) == 3


@pytest.mark.slow
def test_one_node_and_three_give_the_same_configs_and_metrics(cluster):
    cluster.with_workers(0)
    one = cluster.start("one", trials=4, epochs=3, concurrent=1, pause=0.0, strategy="hyperopt").evidence()
    cluster.with_workers(2)
    three = cluster.start("three", trials=4, epochs=3, concurrent=1, pause=0.0, strategy="hyperopt").evidence()
    verdict = check(one, three, kills=0, concurrency=1, same=True)
    assert verdict.problems == []
    assert len(one.epochs) == 12


def test_a_killed_node_costs_no_row_and_no_trial(cluster):
    cluster.with_workers(2)
    sweep = cluster.start("killed", epochs=8)
    sweep.until_side_by_side(3)
    cluster.workers[0].kill()
    evidence = sweep.evidence()
    untroubled(evidence, 6, 8)
    # What ran there, and only that, was tried again.
    assert sorted(row["attempts"] for row in evidence.trials) == [1, 1, 1, 1, 1, 2]


@pytest.mark.slow
def test_a_cut_link_costs_no_row_and_no_trial(cluster):
    """The node goes on training meanwhile; what it then has to say is of an attempt that was given up."""
    cluster.with_workers(2)
    sweep, lost = cluster.start("cut", epochs=12), cluster.workers[0]
    sweep.until_side_by_side(3)
    lost.cut()
    # As long in terms of the time to detect a lost node as a minute is in those of Ray's own settings.
    time.sleep(20)
    lost.restore()
    evidence = sweep.evidence()
    lost.kill()
    untroubled(evidence, 6, 12)
    assert sum(row["attempts"] for row in evidence.trials) == 7


def test_a_node_that_is_added_is_used(cluster):
    cluster.with_workers(0)
    sweep = cluster.start("added", trials=8, epochs=8, concurrent=None)
    sweep.until_epochs(1)
    added = cluster.add()
    evidence = sweep.evidence()
    untroubled(evidence, 8, 8)
    assert hosts(evidence).get(added.name, 0) > 0
    assert side_by_side(evidence.log) == 2
    # Frozen is what was asked for, so that a resume on a larger cluster uses all of it.
    assert "max_concurrent" not in (sweep.run / "sweep.toml").read_text()
