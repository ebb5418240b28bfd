"""A sweep of thousands of short trials on a cluster that says that it has 64 cores: what the driver costs.

    python -m benchmarks.scale --trials 2000 --seconds 20 --concurrent 64

The trials sleep, so two real cores do for 64 declared ones. Ideal is trials * seconds / concurrent, without any start.
What is measured: how much longer the sweep takes from its command to its end, and from its first trial's begin; how the
driver's memory grows with its trials (its own, /proc's Private_Dirty, by a line through the second half of the sweep,
since what is loaded once is no growth); and how busy the driver is, from which follows where it becomes the bottleneck.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tuner.cli import guard

RESULT = Path(__file__).parent / "results" / "scale.json"
TRAINABLE = """
import time


def sleeps(config, trial):
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        time.sleep(config["pause"])
        trial.report(epoch=epoch, score=config["x"] * epoch)
"""
SWEEP = """
[sweep]
trainable = "sleeps.py:sleeps"
metric = "score"
mode = "max"
max_epochs = {epochs}
[space]
x = {{ uniform = [0.0, 1.0] }}
pause = {pause}
[search]
strategy = "random"
trials = {trials}
[resources]
gpus_per_trial = 0
max_concurrent = {concurrent}
"""


@contextlib.contextmanager
def cluster(folder: Path, cpus: int):
    """Yield the address and environment of a cluster of one node on loopback that declares so many cores."""
    (folder / "home").mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(folder / "home"), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONDONTWRITEBYTECODE": ""}
    start = "start --head --block --disable-usage-stats --include-dashboard=false --port=0 --node-ip-address=127.0.0.1"
    more = [f"--num-cpus={cpus}", "--num-gpus=0", f"--temp-dir={folder / 'ray'}", "--object-store-memory=200000000"]
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "ray.scripts.scripts", *start.split(), *more]
        head = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    guard.adopt_orphans()
    try:
        while not (found := [*folder.glob("ray/session_latest/gcs_server_port_*")]) or "--block" not in (
            folder / "log"
        ).read_text(errors="replace"):
            assert head.poll() is None, (folder / "log").read_text(errors="replace")
            time.sleep(0.2)
        yield f"127.0.0.1:{found[0].read_text()}", env
    finally:
        family = [head.pid, *guard.descendants(head.pid)]
        head.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(15)
        for pid in family:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        head.wait()


class Watcher(threading.Thread):
    """Notes, every few seconds, the driver's memory and processor time, and how many trials are over."""

    def __init__(self, journal: Path) -> None:
        super().__init__(daemon=True)
        self.journal, self.samples, self.over = journal, [], threading.Event()

    def run(self) -> None:
        while not self.over.wait(5.0):
            with contextlib.suppress(OSError, sqlite3.Error, ValueError, KeyError):
                pid = json.loads(self.journal.with_name("driver.lock").read_text())["pid"]
                memory = re.search(r"Private_Dirty:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())
                ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                cpu_s = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
                ended = ask(self.journal, "SELECT count(*) FROM events WHERE kind = 'end'")[0][0]
                self.samples.append((time.time(), int(memory[1]) * 1024, cpu_s, ended))


def ask(journal: Path, query: str):
    """Return a query's rows."""
    with contextlib.closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True, timeout=10)) as opened:
        return opened.execute(query).fetchall()


def main() -> None:
    """Run it, print the figures and store them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    try:
        (folder / "sleeps.py").write_text(TRAINABLE)
        pause = asked.seconds / asked.epochs
        words = {"epochs": asked.epochs, "pause": pause, "trials": asked.trials, "concurrent": asked.concurrent}
        (folder / "sweep.toml").write_text(SWEEP.format(**words))
        with cluster(folder, asked.concurrent) as (address, env):
            figures = measure(folder, address, env, asked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def measure(folder: Path, address: str, env: dict[str, str], asked: argparse.Namespace) -> dict[str, object]:
    """Run the sweep, and return its figures."""
    journal = folder / "runs" / "sweep" / "journal.sqlite"
    watcher = Watcher(journal)
    watcher.start()
    began = time.time()
    command = [sys.executable, "-m", "tuner.cli", "run", str(folder / "sweep.toml"), "--quiet"]
    where = ["--address", address, "--storage", str(folder / "runs"), "--name", "sweep"]
    subprocess.run([*command, *where], env=env, check=True)
    took = time.time() - began
    watcher.over.set()
    watcher.join()
    ideal = asked.trials * asked.seconds / asked.concurrent
    first = ask(journal, "SELECT min(at) FROM events WHERE kind = 'attempt'")[0][0]
    last = ask(journal, "SELECT max(at) FROM events WHERE kind = 'end'")[0][0]
    completed = ask(journal, "SELECT count(*) FROM events WHERE kind = 'end' AND body LIKE '%\"completed\"%'")[0][0]
    half = [sample for sample in watcher.samples if sample[3] >= asked.trials / 2]
    early = [sample for sample in watcher.samples if 0.1 * asked.trials <= sample[3] < 0.5 * asked.trials]
    slope = float(np.polyfit([sample[3] for sample in half], [sample[1] for sample in half], 1)[0])
    busy = (half[-1][2] - half[0][2]) / (half[-1][0] - half[0][0])
    trials_s = (half[-1][3] - half[0][3]) / (half[-1][0] - half[0][0])
    cpu_a_trial_s = busy / trials_s
    return {
        "command": f"python -m benchmarks.scale {' '.join(sys.argv[1:])}".strip(),
        "n": 1,
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "trials": asked.trials,
        "completed": completed,
        "seconds a trial": asked.seconds,
        "epochs a trial": asked.epochs,
        "concurrent": asked.concurrent,
        "ideal_s": round(ideal, 1),
        "command to end_s": round(took, 1),
        "above ideal, command to end": round(took / ideal - 1, 4),
        "first attempt to last end_s": round(last - first, 1),
        "above ideal, first attempt to last end": round((last - first) / ideal - 1, 4),
        "driver memory growth, bytes a trial": round(slope),
        "driver memory at 10 % and at the end, bytes": [early[0][1] if early else None, half[-1][1]],
        "driver busy, cores": round(busy, 3),
        "driver CPU a trial_s": round(cpu_a_trial_s, 4),
        "trials a second at which the driver's core is full": round(1 / cpu_a_trial_s, 1),
    }


if __name__ == "__main__":
    main()
