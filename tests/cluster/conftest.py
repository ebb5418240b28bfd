"""One cluster for all tests of this folder: hosts in network namespaces, with as many workers as a test asks for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import network
from benchmarks.chaos.checker import gather

# A node counts as lost after five checks without an answer, so within 5 to 15 s; with Ray's own (3 s apart, 10 s to
# answer) within 15 to 65. Read by the head.
DETECTION = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
# The chaos harness's trainable, which keeps a log of every epoch that was really executed, on the shared folder.
_TRAINABLE = """
import os
from pathlib import Path
os.environ["CHAOS_LOG"] = str(Path(__file__).with_name("executed.jsonl"))
from benchmarks.chaos.trainable import train
"""


def pytest_report_header():
    why = network.why_not()
    return f"cluster tests are skipped: {why}" if why else None


class Running:
    """A sweep that a host has started on the cluster: its folder on the shared one, and its process."""

    def __init__(self, node, folder, epochs):
        self.epochs = epochs
        self.node, self.folder, self.run = node, folder, folder / "runs" / "sweep"
        command = ["tuner", "run", str(folder / "sweep.toml"), "--address", network.address(node)]
        command += ["--storage", str(folder / "runs"), "--name", "sweep", "--quiet"]
        self._output = (folder / "output.txt").open("w")
        self.process = node.start(command, output=self._output)

    def executed(self, what="end"):
        """What the trainable's log says so far: its lines of one kind."""
        log = self.folder / "executed.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line["what"] == what]

    def until_epochs(self, count, limit_s=60.0):
        """Wait until so many epochs were executed."""
        network.until(lambda: len(self.executed()) >= count or self._over(), limit_s, f"{count} epochs: {self.words()}")

    def until_side_by_side(self, count, limit_s=60.0):
        """Wait until so many trials are at an epoch at the same moment."""
        network.until(lambda: len(self._at_work()) >= count or self._over(), limit_s, f"{count} trials at a time")

    def _at_work(self):
        return {line["number"] for line in self.executed("start")[-9:]} - {
            row["number"] for row in self.executed() if row["epoch"] == self.epochs
        }

    def _over(self):
        if self.process.poll() is not None:
            pytest.fail(f"it ended with exit status {self.process.returncode}: {self.words()}")

    def words(self):
        return (self.folder / "output.txt").read_text()[-2000:]

    def evidence(self, limit_s=90.0):
        """Wait for its end, and return what it left, as the chaos checker reads it."""
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.node.signal(self.process, signal.SIGKILL)
            pytest.fail(f"still at it after {limit_s:g} s: {self.words()}")
        frames = [self.folder / "trials.json", self.folder / "epochs.json"]
        export = ["export", str(self.run), "--trials", str(frames[0]), "--epochs", str(frames[1])]
        subprocess.run([sys.executable, "-m", "tuner.cli", *export], check=True, capture_output=True, env=os.environ)
        return gather(self.run, self.folder / "executed.jsonl", *frames, status)

    def stop(self):
        if self.process.poll() is None:
            self.node.signal(self.process, signal.SIGKILL)
            self.process.wait()
        self._output.close()


class Cluster:
    """A head and its workers, one core each."""

    def __init__(self, hosts):
        self.network = hosts
        self.head = hosts.add("head")
        self.workers = []
        self.sweeps = []
        network.start_head(self.head, env=DETECTION)

    def with_workers(self, count):
        """Have so many workers: others are killed, missing ones come as new hosts."""
        for worker in self.workers[count:]:
            worker.kill()
        self.workers = [worker for worker in self.workers if worker.alive]
        missing = [self._new_host() for _ in range(count - len(self.workers))]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda worker: network.start_worker(worker, self.head), missing))
        network.until(lambda: network.alive(self.head) == 1 + count, 30, f"{1 + count} nodes")
        return self

    def add(self):
        """Add a worker on a new host."""
        worker = self._new_host()
        network.start_worker(worker, self.head)
        return worker

    def _new_host(self):
        self.workers.append(self.network.add(f"worker{len(self.network.nodes)}"))
        return self.workers[-1]

    def start(self, name, *, trials=6, epochs=4, concurrent=3, pause=0.5, strategy="random", **more):
        """Start a sweep from the head."""
        folder = self.network.shared / name
        folder.mkdir()
        (folder / "trainable.py").write_text(_TRAINABLE)
        concurrency = f"max_concurrent = {concurrent}" if concurrent else ""
        (folder / "sweep.toml").write_text(f"""
[sweep]
name = "sweep"
trainable = "trainable.py:train"
metric = "score"
mode = "max"
seed = 3
max_epochs = {epochs}
[space]
learning_rate = {{ loguniform = [1e-3, 0.4] }}
width = {{ choice = [2, 5] }}
pause = {pause}
[search]
strategy = "{strategy}"
trials = {trials}
[resources]
gpus_per_trial = 0
{concurrency}
""")
        self.sweeps.append(Running(self.head, folder, epochs))
        return self.sweeps[-1]

    def stop_sweeps(self):
        for sweep in self.sweeps:
            sweep.stop()
        self.sweeps.clear()


@pytest.fixture(scope="session")
def made_cluster():
    why = network.why_not()
    if why:
        pytest.skip(f"no cluster of network namespaces here: {why}")
    with network.Network() as hosts:
        yield Cluster(hosts)


@pytest.fixture
def cluster(made_cluster):
    """The cluster; what a test's sweeps left running ends with it."""
    yield made_cluster
    made_cluster.stop_sweeps()
