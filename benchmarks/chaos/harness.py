"""One sweep: run it untouched once, then kill and resume it until it ends, and compare the two."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos import starter
from benchmarks.chaos.checker import Evidence, Verdict, check, gather
from benchmarks.chaos.scenarios import Scenario
from benchmarks.chaos.starter import ColdProcess, Process, WarmStarter

# The most that one command may take; a sweep that is still at it then counts as hung.
_LIMIT_S = {"inline": 60.0, "ray": 150.0}
_COLD_EVERY = 10


@dataclass(frozen=True)
class Kill:
    """What is killed and when, drawn from (seed, index, round) alone.

    Args:
        who: driver, parent (of the driver, which owns its signals; only on Ray), family (all that came of the command),
            worker or raylet.
        point: Name of the point at which the process kills itself; "" for a kill at a time.
        count: At which passing of the point.
        after: Share of the untouched sweep's time, from the first durable write (or the first epoch) on; negative: from
            the start of the process on, as a share of its start-up.
    """

    who: str
    point: str = ""
    count: int = 0
    after: float = 0.0

    def __str__(self) -> str:
        return f"{self.who} {self.point}#{self.count}" if self.point else f"{self.who} at {self.after:.3f}"


@dataclass
class Outcome:
    """One killed sweep.

    Args:
        scenario: Its name.
        index: Which; (seed, index) replays it.
        kills: What was really killed, in order.
        verdict: What the checker found.
        kill_counts: Kills by kind.
        husks: Kills before the first row: a resume says that nothing was begun, and the sweep was started again.
        seconds: How long it took in all.
        left_over_processes: Processes still alive 10 s after their driver was killed.
    """

    scenario: str
    index: int
    kills: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    kill_counts: Counter[str] = field(default_factory=Counter)
    husks: int = 0
    seconds: float = 0.0
    left_over_processes: int = 0


@dataclass(frozen=True)
class Untouched:
    """A scenario's untouched sweep: what it left, the points it passed, and how long it took.

    Args:
        evidence: What it left.
        points: How often it passed each named point.
        startup_s: Seconds from the process's start to its first durable write.
        span_s: Seconds from there to its end.
        train_s: Seconds from the first epoch's start to the last line of the trainable's log.
    """

    evidence: Evidence
    points: Counter[str]
    startup_s: float
    span_s: float
    train_s: float


class Sweep:
    """One sweep's folders and commands.

    Args:
        scenario: What to run.
        folder: Where it lives: sweep.toml, runs/, the logs of the trainable and of each command.
        warm: The warm process, or None to start all cold.
    """

    def __init__(self, scenario: Scenario, folder: Path, warm: WarmStarter | None) -> None:
        self.scenario, self.folder = scenario, folder
        self.warm = warm if scenario.backend == "inline" else None
        self.file = scenario.write(folder)
        self.run, self.log = folder / "runs" / "sweep", folder / "executed.jsonl"
        self.output = folder / "output.txt"
        self.rounds = 0
        self.start_again = False

    def start(self, arguments: Sequence[str], *, kill: Kill | None = None, cold: bool = False) -> Process:
        """Start a command; `kill` is for what kills itself at a point."""
        self.rounds += 1
        env = {
            "CHAOS_RUN": str(self.run),
            "CHAOS_LOG": str(self.log),
            "CHAOS_TRACE": str(self.trace),
            "CHAOS_KILL": f"{kill.point}|{kill.count}" if kill and kill.point else "",
            "CHAOS_TOKEN": str(self.token),
        }
        with self.output.open("a") as file:
            file.write(f"--- round {self.rounds}: tuner {' '.join(arguments)}   [{kill or 'no kill'}]\n")
        if self.warm is None or cold:
            return ColdProcess(arguments, env, self.folder, self.output)
        request = {"arguments": [*arguments], "env": env, "cwd": str(self.folder), "output": str(self.output)}
        return self.warm.start([request])[0]

    @property
    def trace(self) -> Path:
        """The points passed in this round."""
        return self.folder / f"trace-{self.rounds}.txt"

    @property
    def token(self) -> Path:
        """Made when a process killed itself in this round."""
        return self.folder / f"killed-{self.rounds}"

    def killed_itself(self, round_: int) -> bool:
        """Return whether a process killed itself at its point in a round."""
        return (self.folder / f"killed-{round_}").exists()

    def arguments(self) -> list[str]:
        """Return the command that goes on: run (or study) where there is no run folder, else resume."""
        backend = ["--backend", self.scenario.backend, "--quiet"]
        if self.run.exists() and not self.start_again:
            return ["resume", str(self.run), *backend]
        begin = "study" if self.scenario.study else "run"
        return [begin, str(self.file), "--storage", str(self.run.parent), "--name", "sweep", *backend]

    def export(self, status: int) -> Evidence:
        """Export the frames, and gather what else the sweep left."""
        frames = [self.folder / "trials.json", self.folder / "epochs.json"]
        process = self.start(["export", str(self.run), "--trials", str(frames[0]), "--epochs", str(frames[1])])
        if process.wait(60) != 0:
            raise RuntimeError(f"tuner export failed: {self.words()}")
        return gather(self.run, self.log, *frames, status)

    def words(self) -> str:
        """Return the last words of the commands."""
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        return " / ".join(text.strip().splitlines()[-3:])

    def executing(self) -> list[int]:
        """Return the pids that began an epoch and have not ended it, newest last."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        last = {entry["pid"]: entry["what"] for entry in map(json.loads, lines)}
        return [pid for pid, what in last.items() if what == "start"]


def run_untouched(scenario: Scenario, folder: Path, warm: WarmStarter | None) -> Untouched:
    """Run a scenario's sweep to its end without killing anything."""
    sweep = Sweep(scenario, folder, warm)
    process = sweep.start(sweep.arguments())
    began = time.monotonic()
    startup_s = _until(sweep.trace, process) - began
    first_epoch = _until(sweep.log, process)
    status = process.wait(_LIMIT_S[scenario.backend])
    span_s = time.monotonic() - began - startup_s
    points = Counter(sweep.trace.read_text().splitlines())
    if status not in (0, 3):
        raise RuntimeError(f"{scenario.name}: the untouched sweep exits with {status}: {sweep.words()}")
    ended = sweep.log if sweep.log.exists() else sweep.trace
    train_s = time.monotonic() - (time.time() - ended.stat().st_mtime) - first_epoch
    return Untouched(sweep.export(status), points, startup_s, span_s, train_s)


def _until(file: Path, process: Process) -> float:
    """Wait for a file, or the process's end; returns the time then."""
    while not file.exists() and process.poll() is None:
        time.sleep(0.005)
    return time.monotonic()


class Chaos:
    """One sweep that is killed and resumed until it ends.

    Args:
        scenario: What to run.
        untouched: The same, untouched.
        folder: Where it lives.
        warm: The warm process, or None.
        seed: With `index`, decides every kill.
        index: Which sweep of the seed.
        most: The most kills; after them it is left to end.
    """

    def __init__(
        self,
        scenario: Scenario,
        untouched: Untouched,
        folder: Path,
        warm: WarmStarter | None,
        seed: int,
        index: int,
        most: int,
    ) -> None:
        self.scenario, self.untouched, self.seed, self.most = scenario, untouched, seed, most
        self.sweep = Sweep(scenario, folder, warm)
        self.outcome = Outcome(scenario.name, index)

    def run(self) -> Outcome:
        """Kill it until it ends, and compare."""
        began = time.monotonic()
        try:
            status = self._until_it_ends()
            killed = self.sweep.export(status)
            kills, concurrency = len(self.outcome.kills), self.scenario.concurrency
            self.outcome.verdict = check(
                self.untouched.evidence, killed, kills, concurrency, same=self.scenario.comparable
            )
        except RuntimeError as error:
            self.outcome.verdict.add("did not end", str(error))
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _until_it_ends(self) -> int:
        for turn in range(self.most * 3 + 10):
            rng = random.Random(_derive(self.seed, self.outcome.index, turn))
            kill = self._draw(rng) if len(self.outcome.kills) < self.most else None
            status = self._round(kill, cold=rng.randrange(_COLD_EVERY) == 0)
            if status is not None:
                return status
        raise RuntimeError(f"still not at its end after {turn + 1} rounds: {self.sweep.words()}")

    def _draw(self, rng: random.Random) -> Kill:
        """Draw what is killed next. At points in half of the cases: each name as often, early passings more often."""
        ray = self.scenario.backend == "ray"
        if rng.random() < 0.5:
            name = rng.choice(sorted(self.untouched.points))
            return Kill("process", name, 1 + int(self.untouched.points[name] * rng.random() ** 2))
        who = rng.choice(("driver", "parent", "family", "worker", "worker", "raylet") if ray else ("driver",))
        early = rng.random() < 0.15 and who in ("driver", "parent", "family")
        return Kill(who, after=-rng.random() if early else rng.random() / 3)

    def _round(self, kill: Kill | None, *, cold: bool) -> int | None:
        """Run or resume once; returns the exit status where the sweep ended, None where it was killed."""
        arguments = self.sweep.arguments()
        self.sweep.start_again = False
        process = self.sweep.start(arguments, kill=kill, cold=cold)
        try:
            hit = self._wait(process, kill)
            if self.sweep.token.exists():
                hit = True
            if hit and kill:
                self.outcome.kills.append(f"{self.outcome.index}.{self.sweep.rounds} {kill}")
                self.outcome.kill_counts[f"{kill.who}, {'point' if kill.point else 'time'}"] += 1
            status = process.poll()
        finally:
            patience = 10.0 if self.scenario.backend == "ray" else 0.0
            self.outcome.left_over_processes += process.clean(patience)
        if status in (0, 3):
            return status
        if hit:
            return None
        return self._refused(arguments, status)

    def _refused(self, arguments: Sequence[str], status: int | None) -> None:
        """Judge a command that did not proceed although nobody killed it: only a husk may be started again."""
        husk = arguments[0] == "resume" and not self.sweep.log.exists() and status in (1, 2)
        if not husk:
            raise RuntimeError(f"{' '.join(arguments)} exits with {status}: {self.sweep.words()}")
        self.outcome.husks += 1
        self.sweep.start_again = True

    def _wait(self, process: Process, kill: Kill | None) -> bool:
        """Wait for the end, killing on the way; returns whether something was killed from here."""
        limit = _LIMIT_S[self.scenario.backend]
        hit = False
        if kill and not kill.point:
            hit = self._kill_in_time(process, kill, limit)
        if process.wait(limit) is None:
            raise RuntimeError(f"hung: nothing ended within {limit:.0f} s after {kill}: {self.sweep.words()}")
        return hit

    def _kill_in_time(self, process: Process, kill: Kill, limit: float) -> bool:
        moment = self._moment(process, kill, limit)
        while moment is not None and process.poll() is None:
            if time.monotonic() >= moment and (victims := self._victims(process, kill.who)):
                return sum(map(starter.kill, victims)) > 0  # all of them
            time.sleep(0.005)
        return False

    def _moment(self, process: Process, kill: Kill, limit: float) -> float | None:
        """Return when to kill; None where the process ended, or did nothing, before that could be known."""
        if kill.after < 0:
            return process.began - kill.after * self.untouched.startup_s
        log, trains = self.sweep.log, self.scenario.backend == "ray"  # Ray's start-up is most of its span
        before = log.stat().st_size if log.exists() else 0
        while not (log.exists() and log.stat().st_size > before) if trains else not self.sweep.trace.exists():
            if process.poll() is not None or time.monotonic() > process.began + limit:
                return None
            time.sleep(0.005)
        return time.monotonic() + kill.after * (self.untouched.train_s if trains else self.untouched.span_s)

    def _victims(self, process: Process, who: str) -> list[int]:
        family = process.family()
        if who == "family":
            return family
        if who == "worker":
            return [pid for pid in self.sweep.executing() if pid in family][-1:]
        if who == "raylet":
            return [pid for pid in family if "raylet/raylet" in starter.command_line(pid)]
        if who == "parent" or self.scenario.backend == "inline":
            return [process.pid] if process.pid in family else []
        # Not the lock's owner: that is the driver only once there is a lock.
        return [pid for pid in family if starter.parent(pid) == process.pid]


class EveryEpoch(Chaos):
    """A sweep whose driver is killed each time that it has committed one more epoch: no interval is shorter."""

    def _draw(self, rng: random.Random) -> Kill:
        return Kill("process", "after commit epoch+checkpoint", 1)


class EveryPoint(Chaos):
    """A study killed once at each durable write that only a study has, and at those of best/, in their order."""

    def _draw(self, rng: random.Random) -> Kill | None:
        done = len(self.outcome.kills)
        return Kill("process", self.plan[done], 1) if done < len(self.plan) else None

    @property
    def plan(self) -> list[str]:
        """The names of its points; in the order in which they are first passed."""
        own = ("note.", "refine-N", "final", "best")
        return [name for name in self.untouched.points if any(part in name for part in own)]


def _derive(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


@contextmanager
def warm_starter() -> Iterator[WarmStarter]:
    """Hold a warm process for as long as this is open."""
    warm = WarmStarter()
    try:
        yield warm
    finally:
        warm.close()


def run_chaos(
    scenarios: Sequence[Scenario],
    folder: Path,
    warm: WarmStarter | None,
    *,
    kills: int,
    seed: int,
    most: int = 12,
    only: int | None = None,
) -> Iterator[Outcome]:
    """Kill sweep after sweep, going around the scenarios, until there were enough kills.

    Args:
        scenarios: What to run.
        folder: Where all of it lives.
        warm: The warm process, or None to start every command cold.
        kills: How many kills in all, at least.
        seed: Decides every kill.
        most: The most kills of one sweep.
        only: Replay this one sweep.
    """
    untouched: dict[Scenario, Untouched] = {}
    done, index = 0, only or 0
    while done < kills:
        scenario = scenarios[index % len(scenarios)]
        name = scenario.name.replace(" ", "-")
        if scenario not in untouched:
            untouched[scenario] = run_untouched(scenario, folder / f"untouched-{name}", warm)
        chaos = Chaos(scenario, untouched[scenario], folder / f"{index:04d}-{name}", warm, seed, index, most)
        outcome = chaos.run()
        yield outcome
        done += len(outcome.kills)
        index += 1
        if only is not None:
            return


def summarise(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Return the figures of each scenario."""
    table: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        row = table.setdefault(outcome.scenario, {"sweeps": 0, "kills": 0, "husks": 0, "by_kind": {}, "figures": {}})
        row["sweeps"] += 1
        row["kills"] += len(outcome.kills)
        row["husks"] += outcome.husks
        row["left_over_processes"] = row.get("left_over_processes", 0) + outcome.left_over_processes
        for name, count in outcome.kill_counts.items():
            row["by_kind"][name] = row["by_kind"].get(name, 0) + count
        for name, count in outcome.verdict.figures.items():
            most = name == "most run again at once"
            row["figures"][name] = (
                max(row["figures"].get(name, 0), count) if most else (row["figures"].get(name, 0) + count)
            )
    return table
