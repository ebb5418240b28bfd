"""What nodes share: the storage, the code, the data, the GPUs; and a submitted sweep whose head is lost."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from benchmarks import network
from benchmarks.chaos_cluster import Store

pytestmark = pytest.mark.cluster

_SWEEP = """
[sweep]
trainable = "{trainable}"
metric = "{metric}"
mode = "max"
max_epochs = {epochs}
{more}
[search]
strategy = "random"
trials = {trials}
"""
_USER = """
import os
import time

import torch


def slow(config, trial):
    weights = trial.state["weights"] if trial.state else torch.zeros(1)
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        weights = weights + config["x"]
        time.sleep(0.5)
        trial.report(epoch=epoch, score=float(weights), gpu=float(len(os.environ.get("CUDA_VISIBLE_DEVICES", ""))),
                     state={"weights": weights})
"""


def write(folder, name="sweep", trainable="user.py:slow", metric="score", epochs=4, trials=4, more=""):
    folder.mkdir(exist_ok=True)
    (folder / "user.py").write_text(_USER)
    more = more or "[space]\nx = { uniform = [0.0, 1.0] }"
    words = {"trainable": trainable, "metric": metric, "epochs": epochs, "trials": trials, "more": more}
    (folder / f"{name}.toml").write_text(_SWEEP.format(**words))
    return str(folder / f"{name}.toml")


def tuner(node, *arguments, env=None, limit_s=120.0):
    """Run a command on a host; returns its exit status and what it printed."""
    done = node.run(["tuner", *arguments], env, limit_s, check=False)
    return done.returncode, done.stdout


def test_a_storage_that_workers_do_not_see_is_refused_by_node(cluster):
    cluster.with_workers(2)
    file = write(cluster.network.shared / "unseen")
    began = time.monotonic()
    where = ["--address", network.address(cluster.head)]
    status, said = tuner(cluster.head, "run", file, *where, "--storage", "/tmp/home/runs")
    assert status == 2, said
    assert "storage must be seen and written by every node, but got (node" in said
    assert all(f"{worker.address} ({worker.name}): it does not see it" in said for worker in cluster.workers)
    assert f"({cluster.head.name})" not in said and "Traceback" not in said
    # Nothing is left of it: neither a run folder here, nor one on a worker.
    assert not [*(cluster.head.folder / "home" / "runs").iterdir()]
    assert not (cluster.workers[0].folder / "home" / "runs").exists()
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_data_is_read_where_the_driver_is_and_nowhere_else(cluster):
    cluster.with_workers(2)
    rows = "\n".join(f"{number % 7},{number % 5},{'yes' if number % 2 else 'no'}" for number in range(80))
    (cluster.head.folder / "home" / "table.csv").write_text(f"a,b,target\n{rows}\n")
    data = '[data]\nname = "table"\npath = "/tmp/home/table.csv"\ntarget = "target"'
    more = f"{data}\n[space]\ndropout = {{ uniform = [0.0, 0.3] }}"
    folder = cluster.network.shared / "data"
    file = write(folder, trainable="mlp", metric="val_accuracy", epochs=1, trials=3, more=more)
    where = ["--address", network.address(cluster.head), "--storage", str(folder / "runs"), "--name", "run"]
    status, said = tuner(cluster.head, "run", file, *where, "-q")
    assert status == 0, said
    (cluster.head.folder / "home" / "table.csv").unlink()
    status, said = tuner(cluster.head, "resume", str(folder / "runs" / "run"), *where[:2], "--trials", "4")
    assert status == 2 and "/tmp/home/table.csv" in said and f"on node {cluster.head.name}" in said


def test_gpus_are_shared_as_asked_and_found_by_their_kind(cluster):
    cluster.with_workers(1)
    host = cluster.network.add("gpus")
    cluster.workers.append(host)
    network.start_worker(host, cluster.head, cpus=4, gpus=1, **{"accelerator_type:A100": 1, "fast_disk": 1})
    folder = cluster.network.shared / "gpus"
    kind = 'gpus_per_trial = 0.5\naccelerator_type = "A100"\ncustom = { fast_disk = 0.1 }'
    file = write(folder, trials=4, more=f"[resources]\n{kind}\n[space]\nx = {{ uniform = [0.0, 1.0] }}")
    where = ["--address", network.address(cluster.head), "--storage", str(folder / "runs"), "--name", "run"]
    status, said = tuner(cluster.head, "run", file, *where, "-q")
    assert status == 0, said
    rows = json.loads(tuner(cluster.head, "show", str(folder / "runs" / "run"), "--json")[1])["trials"]
    assert {row["worker"].partition(":")[0] for row in rows} == {"gpus"}
    # Its four cores would hold four trials; its one GPU holds two, and each sees that one.
    assert len({row["worker"] for row in rows}) == 2
    assert all(row["best.gpu"] == 1.0 for row in rows)


@pytest.mark.slow
def test_a_submitted_sweep_outlives_its_head(cluster):
    """Submit, look, follow, lose the head and its disk, go on with a new cluster, pull."""
    store = Store(cluster.network)
    cluster.with_workers(0)
    here, file = store.node, write(cluster.network.shared / "jobs", trials=6, epochs=16)
    head, worker = cluster.network.add("first"), cluster.network.add("second")
    network.start_head(head, env=store.env)
    network.start_worker(worker, head, env=store.env)
    url, env = f"http://{head.address}:8265", store.env
    asked = ["submit", file, "--address", url, "--storage", "s3://bucket/runs", "--name", "digits"]
    status, said = tuner(here, *asked, env=env)
    assert status == 0 and "digits was submitted as job digits-1" in said, said
    status, said = tuner(here, *asked, env=env)
    assert status == 0 and "was submitted already" in said, said
    status, said = tuner(here, "submit", write(cluster.network.shared / "other"), *asked[2:], env=env)
    assert status == 2 and "it is taken" in said, said

    def done():
        status, said = tuner(here, "show", "s3://bucket/runs/digits", "--json", env=env)
        return status == 0 and sum(row["epochs"] for row in json.loads(said)["trials"]) >= 8

    network.until(done, 120, "8 epochs, as seen from elsewhere")
    status, said = tuner(here, "jobs", "--address", url, env=env)
    assert status == 0 and "digits-1" in said and "running" in said
    head.kill()
    worker.kill()
    shutil.rmtree(head.folder / "home" / ".cache")
    head = cluster.network.add("third")
    network.start_head(head, cpus=2, env=store.env)
    url = f"http://{head.address}:8265"
    status, said = tuner(here, "resume", "s3://bucket/runs/digits", "--address", url, env=env)
    assert status == 0 and "goes on as" in said, said
    # The lease of a driver that was killed is waited for, and that is said.
    status, said = tuner(here, "logs", "digits", "-f", "--address", url, env=env, limit_s=180)
    assert status == 0 and "Waiting for the end of its lease" in said, said
    status, said = tuner(here, "pull", "s3://bucket/runs/digits", "/tmp/home/digits", env=env)
    assert status == 0, said
    rows = json.loads(tuner(here, "show", "/tmp/home/digits", "--json")[1])["trials"]
    assert [(row["status"], row["epochs"]) for row in rows] == [("completed", 16)] * 6
    assert tuner(here, "doctor", "/tmp/home/digits")[0] == 0
