"""What must hold, and whether it does by the JSON files; what was not measured is said, not left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.names import AUTO, EAGER, FP32, OPTUNA, OPTUNA_OURS, RAY
from benchmarks.speed.statistics import better

Found = Mapping[str, Mapping[str, Any]]
"""Part -> its JSON; a part that was not run is not there."""

NOT_MEASURED = "not measured"
NO_GPU = "not measured: there was no GPU"


@dataclass(frozen=True)
class Claim:
    """One line of the table.

    Args:
        what: What is measured.
        asked: What must hold.
        measured: What was found, in words.
        holds: Whether it does; None where nothing was measured.
    """

    what: str
    asked: str
    measured: str
    holds: bool | None


def claims(found: Found) -> list[Claim]:
    """Return every line, in order."""
    return [
        *_sweeps(found),
        *_long(found),
        *_trivial(found),
        *_step(found),
        *_many(found),
        *_memory(found),
        *_gpu(found),
    ]


def _sweeps(found: Found) -> list[Claim]:
    short = "short: 24 trials x 2 epochs, 1,280 images"
    medium = "medium: 24 trials x 4 epochs, 4,000 images"
    return [
        _against(found, "short", short, AUTO, (RAY,), "naive Ray Tune", 5.0),
        _against(found, "short", short, AUTO, OPTUNA, "Optuna n_jobs=2, eager loop", 1.0),
        _against(found, "medium", medium, AUTO, (RAY,), "naive Ray Tune", 3.0),
        _against(found, "medium", f"{medium}, fp32", FP32, (RAY,), "naive Ray Tune", 2.0),
        _against(found, "medium", medium, AUTO, OPTUNA, "Optuna n_jobs=2, eager loop", 1.5),
        _against(found, "medium", f"{medium}, fp32", FP32, OPTUNA_OURS, "Optuna calling this training code", 1 / 1.1),
    ]


def _against(
    found: Found, part: str, what: str, ours: str, theirs: tuple[str, ...], called: str, times: float
) -> Claim:
    """Return how many times as fast as the better of some peers one of ours is."""
    asked = f"at least {times:g} times as fast" if times > 1 else "no slower"
    if times < 1:
        asked = f"at most {1 / times:.2g} times its time"
    what = f"{what}, against {called}"
    figures = found.get(part)
    rival = better(figures["seconds"], theirs) if figures else None
    if figures is None or rival is None or ours not in figures["ratios"]:
        return Claim(what, asked, _absent(figures, theirs), None)
    measured = figures["ratios"][ours][rival]
    if measured is None:
        return Claim(what, asked, NOT_MEASURED, None)
    n = sum(
        a is not None and b is not None
        for a, b in zip(figures["seconds"][rival], figures["seconds"][ours], strict=True)
    )
    said = f"{measured:.2f} times as fast as {rival} (median of {n} rounds)"
    return Claim(what, asked, said, measured >= times)


def _absent(figures: Mapping[str, Any] | None, names: tuple[str, ...]) -> str:
    why = [figures["missing"][name] for name in names if name in figures.get("missing", {})] if figures else []
    return f"{NOT_MEASURED}: {why[0]}" if why else NOT_MEASURED


def _one(
    found: Found, part: str, what: str, asked: str, said: Callable[[Any], str], holds: Callable[[Any], bool]
) -> Claim:
    figures = found.get(part)
    if figures is None:
        return Claim(what, asked, NOT_MEASURED, None)
    return Claim(what, asked, said(figures), holds(figures))


def _long(found: Found) -> list[Claim]:
    def said(f: Any) -> str:
        m = f["medians"]
        beside = f"{m['of_processes_side_by_side']:.3f} of two plain processes at once"
        return f"{m['of_cores_x_lone']:.3f}; {beside} (median of {f['n']} rounds)"

    what = "long: 200 trials, against cores x the lone trial's speed"
    return [_one(found, "long", what, "at least 0.92", said, lambda f: f["medians"]["of_cores_x_lone"] >= 0.92)]


def cost(milliseconds: float, digits: int) -> str:
    """Return a marginal cost in words: the difference of two runs may be lost in what the machine did meanwhile."""
    return f"{milliseconds:.{digits}f} ms" if milliseconds > 0 else "lost in the noise"


def _trivial(found: Found) -> list[Claim]:
    def trial(f: Any) -> str:
        others = ", ".join(f"{name} {cost(ms, 0)}" for name, ms in f["trial_ms_median"].items() if name != "tuner")
        return f"{f['trial_ms_median']['tuner']:.1f} ms; {others} (median of {f['n']} rounds)"

    def reports(f: Any) -> str:
        return f"{f['reports_per_s']} a second: {f['report_ms_median']:.2f} ms a report (median of {f['n']} rounds)"

    return [
        _one(found, "trivial", "marginal cost of a trivial trial (1 report)", "under 15 ms", trial,
             lambda f: f["trial_ms_median"]["tuner"] < 15),
        _one(found, "trivial", "reports with the journal on", "at least 500 a second", reports,
             lambda f: f["reports_per_s"] >= 500),
    ]  # fmt: skip


def _step(found: Found) -> list[Claim]:
    def claim(kind: str, times: float) -> Claim:
        what, asked = (
            f"training step at 28x28 on one core, {kind}, against the eager loop",
            f"at least {times} times as fast",
        )
        figures, name = found.get("step"), f"tuner, {kind}"
        if figures is None or name not in figures["times_faster"]:
            return Claim(what, asked, NOT_MEASURED, None)
        if kind == "bf16" and figures["hardware"]["bf16"] != "amx":
            return Claim(what, asked, f"{NOT_MEASURED}: the processor has no AMX", None)
        measured, ms = figures["times_faster"][name], figures["step_ms_median"]
        said = f"{measured:.2f} times: {ms[name]:.1f} ms against {ms[EAGER]:.1f} ms (median of {figures['n']} rounds)"
        return Claim(what, asked, said, measured >= times)

    return [claim("fp32", 1.6), claim("bf16", 2.3)]


def _many(found: Found) -> list[Claim]:
    what = "10,000 trivial trials x 5 reports"
    return [
        _one(found, "many", what, "completes", lambda f: f"{f['completed']:,} of {f['trials']:,} completed",
             lambda f: bool(f["completed"] == f["trials"])),
        _one(found, "many", f"{what}: the driver's memory", "under 50 KB a trial",
             lambda f: f"{f['growth_bytes_a_trial'] / 1000:.1f} KB a trial",
             lambda f: f["growth_bytes_a_trial"] < 50_000),
        _one(found, "many", f"{what}: the last thousand against the first", "at most 20 % slower",
             lambda f: f"{f['first_window_s']:.1f} s, then {f['last_window_s']:.1f} s: {100 * f['slowing']:+.0f} %",
             lambda f: f["slowing"] <= 0.2),
    ]  # fmt: skip


def _memory(found: Found) -> list[Claim]:
    def said(f: Any) -> str:
        more = f["bytes_an_extra_trial"] / 1e6
        return (
            f"held {f['data_held_times']:.2f} times by {f['concurrent']} trials, the driver and Ray together; "
            f"{more:.0f} MB an extra trial"
        )

    what = "8 concurrent trials on one data set of 1 GB"
    return [_one(found, "memory", what, "held once, not 8 times", said, lambda f: f["data_held_times"] < 1.5)]


GPU = (
    ("32 lanes of cnn at 28x28 and 32x32, batch 128, on one GPU, against one trial at a time", "lanes", 10.0),
    ("the same lanes, against 8 processes sharing the GPU", "processes", 3.0),
    ("a lone trial on the same GPU, against a DataLoader loop", "loader", 5.0),
)
"""What, its part of the JSON of `benchmarks.lanes`, and how many times as fast is asked."""
SHAPES = ("28x28", "32x32x3")
"""The images for which it is asked; the slower counts."""


def _gpu(found: Found) -> list[Claim]:
    lines = []
    for what, part, times in GPU:
        asked = f"at least {times:g} times"
        told = found.get("lanes", {}).get(f"gpu_{part}")
        measured = None if told is None else min(_lane_ratio(told["found"][shape]) for shape in SHAPES)
        said = NO_GPU if measured is None else f"{measured:.1f} times"
        lines.append(Claim(what, asked, said, None if measured is None else measured >= times))
    return lines


def _lane_ratio(figures: Mapping[str, Any]) -> float:
    """Return how many times as fast a part found lanes to be, or the lone trial; of groups, the one of 32."""
    ratio: float = figures.get("ratio") or next(row["ratio"] for row in figures["rows"] if row["lanes"] == 32)
    return ratio
