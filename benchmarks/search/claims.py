"""What must hold of the default strategy and of asha, each with its figure and whether it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.search.summary import TPE

CRASH_LIMITS = {"crash_half": {"auto": 0.10, "hyperopt": 0.25}, "crash_fifth": {"auto": 0.03, "hyperopt": 0.06}}


@dataclass(frozen=True)
class Claim:
    """One requirement: in words, what was measured, and whether it holds."""

    text: str
    measured: str
    holds: bool


def claims(found: dict[str, Any], name: str = "auto") -> list[dict[str, Any]]:
    """Return every claim that the figures can decide.

    Args:
        found: What `summary` returned, with "stopping" and "ask_times".
        name: The strategy that the claims are of.
    """
    every = [*_failing(found), *_stopping(found.get("stopping", {})), *_times(found.get("ask_times", {}))]
    if name in found["competitors"]:
        every = [*_ranks(found, name), *_regrets(found, name), *_random(found, name), *every]
    return [asdict(claim) for claim in every]


def _ranks(found: dict[str, Any], name: str) -> Iterator[Claim]:
    fields = {
        "of the default and the other tools": found.get("ranks_among_tools", {}),
        "of all, this project's other strategies included": found["ranks"].get("1", {}),
    }
    for field, by_trials in fields.items():
        for trials in ("50", "100"):
            if mean := by_trials.get(trials, {}).get("mean", {}):
                yield _rank(mean, name, f"{name} has the best mean rank at {trials} trials {field}")


def _rank(mean: dict[str, float], name: str, text: str) -> Claim:
    best = min((other for other in mean if other != name), key=lambda other: mean[other])
    return Claim(text, f"{mean[name]:.2f}; the best other is {best} with {mean[best]:.2f}", mean[name] <= mean[best])


def _regrets(found: dict[str, Any], name: str) -> Iterator[Claim]:
    last = str(found["facts"]["trials"])
    if TPE in found["competitors"] and last in found["median_regret"][name]["1"]:
        own, tpe = (found["median_regret"][who]["1"][last] for who in (name, TPE))
        text = f"{name}'s median final regret is at least 25 % below {TPE}'s"
        yield Claim(text, f"{own:.4g} against {tpe:.4g}: {1 - own / tpe:.0%} below", own <= 0.75 * tpe)


def _random(found: dict[str, Any], name: str) -> Iterator[Claim]:
    if not found["against_random"]:
        return
    own = found["against_random"][name]
    worse = own["worse_than_upper_quartile"]
    text = f"{name} is on no task worse than random's upper quartile"
    yield Claim(text, ", ".join(worse) or "on none", not worse)
    early, random = (found["mean_regret"][who]["1"]["20"] for who in (name, "random"))
    text = f"{name} is better than random on average at 20 trials"
    yield Claim(text, f"mean regret {early:.4g} against {random:.4g}", early < random)
    lost = own["lost_to_concurrency"]
    if lost is not None and len(found["facts"]["concurrency"]) > 1:
        text = f"{name} loses at most 15 % of its improvement over random with 4 workers"
        yield Claim(text, f"{lost:.1%}", lost <= 0.15)


def _failing(found: dict[str, Any]) -> Iterator[Claim]:
    for task, limits in CRASH_LIMITS.items():
        for name, limit in limits.items():
            share = found["failing"].get(task, {}).get(name)
            if share is not None:
                text = f"{task}: at most {limit:.0%} of {name}'s trials 20 to 59 fail"
                yield Claim(text, f"{share:.1%}", share <= limit)


def _stopping(stopping: dict[str, Any]) -> Iterator[Claim]:
    for table, figures in stopping.get("asha", {}).items():
        orders = figures["orders"]
        if table in ("untrained_first_epoch", "crossing_curves"):
            kept = figures["winner_kept"]
            yield Claim(f"asha: {table} keeps its winner", f"in {kept} of {orders} orders", kept == orders)
            continue
        text = f"asha: {table}: within 0.5 points of the best with at most 25 % of the epochs in 19 of 20 orders"
        told = (
            f"both in {figures['both']} of {orders}; within 0.5 points in {figures['within_half_a_point']}; "
            f"at most {max(figures['epochs_share']):.0%} of the epochs"
        )
        yield Claim(text, told, figures["both"] >= 0.95 * orders)


def _times(times: dict[str, Any]) -> Iterator[Claim]:
    for observations, limit in (("200", 50), ("1000", 500)):
        slow = {name: ms[observations] for name, ms in times.items()}
        if slow:
            worst = max(slow, key=lambda name: slow[name])
            text = f"a proposal takes under {limit} ms at {observations} observations and 12 parameters"
            yield Claim(text, f"at most {slow[worst]} ms ({worst})", slow[worst] < limit)
