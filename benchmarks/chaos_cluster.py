"""Seeded node kills and link cuts on a real cluster of network namespaces, and whether anything is lost by them.

    make chaos-cluster            or: python -m benchmarks.chaos_cluster --faults 20 --seed 1

Every sweep runs on a head and two workers of one core each, with its run folder on a shared folder or at an S3 URI,
and meets two faults: a worker killed, a worker's link cut and restored, the head's link cut and restored, or the head
killed with its disk. After the last, a new head and new workers are started, and `tuner resume` goes on from the
storage; the old workers are left as they are, so that what they still write can do harm if it can.

What is checked is what the trainable's own log says of every epoch that was really executed, not what the journal says.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import network
from benchmarks.chaos.checker import check, gather
from tuner.adoption import is_manifest, parse
from tuner.pulling import pull
from tuner.storage import Remote

RESULT = Path(__file__).parent / "results" / "chaos_cluster.json"
KINDS = ("kill worker", "cut worker", "cut head", "kill head")
TRIALS, EPOCHS, PAUSE_S = 15, 8, 0.6
# A node counts as lost after about 8 s without an answer, instead of Ray's own 50: read by `ray start --head`.
DETECTION = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
CUT_S = 20.0
_LIMIT_S = 300.0
_PORT = 9000
_TRAINABLE = """
import os
from pathlib import Path
os.environ["CHAOS_LOG"] = "{log}"
from benchmarks.chaos.trainable import train
"""
_SWEEP = """
[sweep]
name = "sweep"
trainable = "trainable.py:train"
metric = "score"
mode = "max"
seed = {seed}
max_epochs = {epochs}
[space]
learning_rate = {{ loguniform = [1e-3, 0.4] }}
width = {{ choice = [2, 5] }}
pause = {pause}
[search]
strategy = "random"
trials = {trials}
[resources]
gpus_per_trial = 0
max_concurrent = 3
"""


class Store:
    """A host that speaks S3's protocol, reached by every other, and from here through its namespace alone."""

    def __init__(self, hosts: network.Network) -> None:
        self.node = hosts.add("store")
        self.server = self.node.start(["python", "-m", "moto.server", "-H", self.node.address, "-p", str(_PORT)])
        self.env = {
            "AWS_ENDPOINT_URL": f"http://{self.node.address}:{_PORT}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        make = "import fsspec; fsspec.filesystem('s3').mkdir('bucket')"
        network.until(lambda: self.node.run(["python", "-c", make], self.env, check=False).returncode == 0, 60, "S3")


@dataclasses.dataclass
class Fault:
    """One thing that was done to a cluster, and what it cost.

    Args:
        kind: One of KINDS.
        at: When, in seconds since 1970.
        node: Which host's name.
        detected_s: Until the journal ends the attempt that ran there; None where none did, or the driver died.
        begun_s: From then until its next attempt began; None where another fault came before.
        lost_s: From then until that attempt's first epoch, its worker's start included; None as before.
        known: What the storage held at the head's death: (trial, epoch) -> score.
    """

    kind: str
    at: float
    node: str
    detected_s: float | None = None
    begun_s: float | None = None
    lost_s: float | None = None
    known: dict[tuple[str, int], float] = dataclasses.field(default_factory=dict)


class Sweep:
    """One sweep and the clusters that it runs on, one after another."""

    def __init__(self, hosts: network.Network, store: Store, number: int, seed: int, remote: bool) -> None:
        self.hosts, self.store, self.number = hosts, store, number
        self.folder = hosts.shared / f"sweep{number}"
        self.folder.mkdir()
        self.log = self.folder / "executed.jsonl"
        self.storage = f"s3://bucket/{number}" if remote else str(self.folder / "runs")
        self.run = f"{self.storage}/sweep"
        (self.folder / "trainable.py").write_text(_TRAINABLE.format(log=self.log))
        words = {"seed": seed, "epochs": EPOCHS, "pause": PAUSE_S, "trials": TRIALS}
        (self.folder / "sweep.toml").write_text(_SWEEP.format(**words))
        self.nodes: list[network.Node] = []
        self.faults: list[Fault] = []

    def start_cluster(self) -> None:
        """Start a head and two workers on new hosts, and the driver on the head."""
        name = f"{self.number}-{len(self.nodes)}"
        self.head = self.hosts.add(f"head{name}")
        self.workers = [self.hosts.add(f"worker{name}{letter}") for letter in "ab"]
        self.nodes += [self.head, *self.workers]
        network.start_head(self.head, env=DETECTION | self.store.env)
        for worker in self.workers:
            network.start_worker(worker, self.head, env=self.store.env)

    def drive(self) -> None:
        """Start the driver: the sweep, or where it was begun, its resume."""
        where = ["--address", network.address(self.head)]
        command = ["run", str(self.folder / "sweep.toml"), *where, "--storage", self.storage, "--name", "sweep"]
        if self.faults:
            command = ["resume", self.run, *where]
        self.output = (self.folder / f"output{len(self.nodes)}.txt").open("w")
        self.driver = self.head.start(["tuner", *command], self.store.env, self.output)

    def executed(self) -> list[dict[str, Any]]:
        """Return the trainable's lines so far that say that an epoch has ended."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [line for line in lines if line["what"] == "end"]

    def journal(self) -> Path | None:
        """Return the driver's own journal, as it lies on the head's disk, or on the shared folder."""
        if self.storage.startswith("s3"):
            return next(self.head.folder.glob("home/.cache/tuner/runs/*/sweep/journal.sqlite"), None)
        found = Path(self.run) / "journal.sqlite"
        return found if found.exists() else None

    def rows(self, query: str) -> list[Any]:
        """Return what the driver's journal says."""
        journal = self.journal()
        if journal is None:
            return []
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(journal, timeout=10)) as opened:
            return opened.execute(query).fetchall()
        return []

    def until_epochs(self, count: int) -> bool:
        """Wait until so many epochs were executed; False where the sweep is over before."""

        def reached() -> bool:
            return len(self.executed()) >= count or self.driver.poll() is not None

        network.until(reached, _LIMIT_S, f"{count} epochs: {self.words()}")
        return self.driver.poll() is None

    def words(self) -> str:
        """Return the end of what the driver has printed."""
        return "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("output*.txt")))

    def hurt(self, kind: str, chance: random.Random) -> None:
        """Do one thing to the cluster, and see the sweep on its way again."""
        node = self.head if kind.endswith("head") else chance.choice([one for one in self.workers if one.alive])
        fault = Fault(kind, time.time(), node.name)
        self.faults.append(fault)
        if kind == "kill worker":
            node.kill()
            fresh = self.hosts.add(f"{node.name}x")
            self.nodes.append(fresh)
            self.workers = [one for one in self.workers if one is not node] + [fresh]
            network.start_worker(fresh, self.head, env=self.store.env)
        elif kind == "kill head":
            node.kill()
            fault.known = self.kept()
            if self.storage.startswith("s3"):  # its disk is lost, too
                shutil.rmtree(node.folder / "home" / ".cache", ignore_errors=True)
            self.start_cluster()
            self.drive()
        else:
            node.cut()
            time.sleep(CUT_S)
            node.restore()

    def kept(self) -> dict[tuple[str, int], float]:
        """Return what the storage holds now: the rows of the journal there, and those of checkpoints' manifests."""
        script = "import sys; from benchmarks.chaos_cluster import kept_in; kept_in(sys.argv[1])"
        told = self.store.node.run(["python", "-c", script, self.run], self.store.env, 120).stdout
        rows = json.loads(told.splitlines()[-1])
        return {(trial, epoch): score for trial, epoch, score in rows}

    def finish(self, untouched: Any) -> list[str]:
        """Wait for its end; returns what is wrong, a sentence each."""
        try:
            status = self.driver.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            return [f"sweep {self.number} is still at it after {_LIMIT_S:g} s: {self.words()}"]
        copy = self.folder / "copy"
        self.store.node.run(["tuner", "pull", self.run, str(copy)], self.store.env)
        frames = [self.folder / "trials.json", self.folder / "epochs.json"]
        tool = [sys.executable, "-m", "tuner.cli", "export", str(copy)]
        subprocess.run([*tool, "--trials", str(frames[0]), "--epochs", str(frames[1])], check=True, capture_output=True)
        evidence = gather(copy, self.log, *frames, status)
        against = untouched or evidence
        verdict = check(against, evidence, kills=len(self.faults), concurrency=3, same=False)
        problems = [*verdict.problems, *([] if status == 0 else [f"exit status {status}: {self.words()}"])]
        if untouched:
            problems += _differences(untouched, evidence)
        problems += [f"{row['trial']}: {row['status']} ({row['cause']})" for row in evidence.trials if row["cause"]]
        scores = {(row["trial"], row["epoch"]): row["score"] for row in evidence.epochs}
        for fault in self.faults:
            gone = [key for key, score in fault.known.items() if scores.get(key) != score]
            problems += [f"{key[0]} epoch {key[1]} was in the storage at the head's death, and is lost" for key in gone]
        self._costs(copy / "journal.sqlite")
        self.again = verdict.figures["epochs run again"]
        self.evidence = evidence
        return problems

    def _costs(self, journal: Path) -> None:
        """Work out, for each worker that was lost, how long until it was noticed, and until its trial went on."""
        with contextlib.closing(sqlite3.connect(journal)) as opened:
            rows = opened.execute(
                "SELECT kind, trial, attempt, at, body FROM events"
                " WHERE kind IN ('attempt', 'epoch', 'end') ORDER BY seq"
            ).fetchall()
        for fault in self.faults:
            if "worker" not in fault.kind:
                continue
            lost = [row for row in rows if row[0] == "end" and row[3] > fault.at and "infrastructure" in (row[4] or "")]
            mine = next((row for row in lost if _ran_on(rows, row[1], row[2], fault.node)), None)
            if mine is None:
                continue
            fault.detected_s = mine[3] - fault.at
            again = [row for row in rows if row[1:3] == (mine[1], mine[2] + 1)]
            epochs = [row[3] for row in again if row[0] == "epoch"]
            if epochs and not any(fault.at < other.at < epochs[0] for other in self.faults):
                fault.begun_s = again[0][3] - mine[3]
                fault.lost_s = epochs[0] - again[0][3]

    def stop(self) -> None:
        """End what is left of it."""
        if self.driver.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                self.head.signal(self.driver, signal.SIGKILL)
        for node in self.nodes:
            node.kill()
        self.driver.wait()
        self.output.close()


def _ran_on(rows: list[Any], trial: str, attempt: int, host: str) -> bool:
    workers = [json.loads(row[4])["worker"] for row in rows if row[:3] == ("epoch", trial, attempt)]
    return any(worker.partition(":")[0] == host for worker in workers)


def _differences(untouched: Any, evidence: Any) -> list[str]:
    """Return where a sweep's configs or metrics are not those of the sweep that nobody hurt."""

    def told(one: Any) -> tuple[Any, Any]:
        configs = [{key: row[key] for key in row if key.startswith(("config.", "best."))} for row in one.trials]
        return configs, {(row["trial"], row["epoch"]): row["score"] for row in one.epochs}

    return [] if told(untouched) == told(evidence) else ["configs or metrics differ from the untouched sweep's"]


def kept_in(run: str) -> None:
    """Print what a storage holds of a sweep, as JSON: [trial, epoch, score] of every row; runs on a host."""
    rows: dict[tuple[str, int], float] = {}
    folder = Path(f"/tmp/kept-{os.getpid()}")
    remote = "://" in run
    with contextlib.suppress(Exception):  # no snapshot yet
        pull(Remote(run) if remote else Path(run), folder, lambda path: False)
        with contextlib.closing(sqlite3.connect(folder / "journal.sqlite")) as opened:
            for trial, epoch, body in opened.execute("SELECT trial, epoch, body FROM events WHERE kind = 'epoch'"):
                rows[trial, epoch] = json.loads(body)["metrics"]["score"]
    if remote:
        there = Remote(run)
        for path in there.entries("checkpoints"):
            manifest = parse(path, there.read(path)) if is_manifest(path) else None
            for epoch, body in manifest.rows.items() if manifest else ():
                rows[manifest.trial, epoch] = body["metrics"]["score"]
    print(json.dumps([[*key, score] for key, score in rows.items()]))


def main() -> None:
    """Do it, print the figures and store them; exits with 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    why = network.why_not()
    if why:
        sys.exit(f"chaos on a cluster cannot be had here: {why}")
    chance, began = random.Random(asked.seed), time.monotonic()
    plan = _plan(chance)
    problems, sweeps = list[str](), list[Sweep]()
    with network.Network() as hosts:
        store = Store(hosts)
        untouched, wrong = _sweep(hosts, store, 0, asked.seed, False, [], chance, None)
        problems += wrong
        while sum(len(sweep.faults) for sweep in sweeps) < asked.faults:
            kinds, number = [next(plan), next(plan)], 1 + len(sweeps)
            done, wrong = _sweep(hosts, store, number, asked.seed, number % 2 == 1, kinds, chance, untouched.evidence)
            sweeps.append(done)
            problems += [f"sweep {done.number} ({', '.join(kinds)}): {problem}" for problem in wrong]
            print(
                f"{time.monotonic() - began:5.0f} s  {done.number}, {done.storage[:5]}: {kinds}: {wrong or 'right'}",
                flush=True,
            )
    figures = _figures(sweeps, problems, asked, time.monotonic() - began)
    asked.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    sys.exit(1 if problems else 0)


def _plan(chance: random.Random) -> Iterator[str]:
    """Yield kinds of faults without end: each as often as the others, in a seeded order."""
    while True:
        yield from chance.sample(KINDS, len(KINDS))


def _sweep(
    hosts: network.Network,
    store: Store,
    number: int,
    seed: int,
    remote: bool,
    kinds: list[str],
    chance: random.Random,
    untouched: Any,
) -> tuple[Sweep, list[str]]:
    sweep = Sweep(hosts, store, number, seed, remote)
    sweep.start_cluster()
    sweep.drive()
    try:
        for place, kind in enumerate(kinds, 1):
            # Somewhere in its own part of the sweep.
            share = chance.uniform(place - 0.8, place - 0.2) / len(kinds)
            if sweep.until_epochs(max(2, int(share * TRIALS * EPOCHS))):
                sweep.hurt(kind, chance)
        return sweep, sweep.finish(untouched)
    finally:
        sweep.stop()


def _figures(sweeps: list[Sweep], problems: list[str], asked: argparse.Namespace, took_s: float) -> dict[str, Any]:
    faults = [fault for sweep in sweeps for fault in sweep.faults]
    detected = [fault.detected_s for fault in faults if fault.detected_s is not None]
    begun = [fault.begun_s for fault in faults if fault.begun_s is not None]
    beyond = [fault.lost_s for fault in faults if fault.lost_s is not None]
    return {
        "command": f"python -m benchmarks.chaos_cluster --faults {asked.faults} --seed {asked.seed}",
        "sweeps": len(sweeps),
        "faults": {kind: sum(fault.kind == kind for fault in faults) for kind in KINDS},
        "problems": problems,
        "epochs run again": sum(getattr(sweep, "again", 0) for sweep in sweeps),
        "rows in the storage when a head died, all there at the end": sum(len(fault.known) for fault in faults),
        "workers lost in the middle of a trial": len(detected),
        "detection_s, median and most": _spread(detected),
        "then until its next attempt begins_s, median and most": _spread(begun),
        "then until that one's first epoch_s, median and most": _spread(beyond),
        "epoch_s": PAUSE_S,
        "took_s": round(took_s),
    }


def _spread(values: list[float]) -> list[float] | None:
    return [round(statistics.median(values), 1), round(max(values), 1)] if values else None


if __name__ == "__main__":
    main()
