"""The benchmark's figures, drawn from its JSON, in the look of the report's."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.speed.claims import Found
from tuner.analysis.figures import style


def draw_all(found: Found, folder: Path) -> list[Path]:
    """Draw the figure of every part that has been run into a folder; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for part, draw in DRAWN.items():
        if part in found:
            paths.append(folder / f"{part}.png")
            draw(found[part]).savefig(paths[-1], metadata={"Software": None})
    return paths


def bars(values: Mapping[str, Sequence[float | None]], label: str) -> Figure:
    """Draw the median of each name's values as a bar, the values as points; the shortest on top.

    Args:
        values: Name -> values; None is left out. Names of this project begin with "tuner".
        label: Of the axis.
    """
    run = {name: [value for value in each if value is not None] for name, each in values.items()}
    medians = {name: statistics.median(each) for name, each in run.items() if each}
    names = sorted(medians, key=lambda name: medians[name], reverse=True)
    colours = style.palette(dark=False)
    with style.canvas(0.9 + 0.32 * len(names), dark=False) as figure:
        axes = figure.add_subplot()
        shades = [colours.blue if name.startswith("tuner") else colours.faint for name in names]
        axes.barh(range(len(names)), [medians[name] for name in names], color=shades, height=0.62)
        for place, name in enumerate(names):
            axes.plot(run[name], [place] * len(run[name]), ".", color=colours.ink, ms=4)
            axes.annotate(
                f"{float(f'{medians[name]:.3g}'):g}",
                (max(run[name]), place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_xlabel(label)
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        style.category_axis(axes.yaxis, names, width=40)
    return figure


def _sweep(told: Mapping[str, Any]) -> Figure:
    return bars(told["seconds"], "seconds from spawn to exit")


def _long(told: Mapping[str, Any]) -> Figure:
    names = {
        "of_cores_x_lone": "tuner, of cores x the lone trial",
        "of_cores_x_lone_without_start": "tuner, the same without start",
        "of_processes_side_by_side": "tuner, of two plain processes",
    }
    return bars({label: [entry[key] for entry in told["rounds"]] for key, label in names.items()}, "share")


def _trivial(told: Mapping[str, Any]) -> Figure:
    told_apart = {name: told["trial_ms"][name] for name, ms in told["trial_ms_median"].items() if ms > 0}
    return bars(told_apart, "milliseconds of one more trivial trial")


def _step(told: Mapping[str, Any]) -> Figure:
    return bars(told["step_ms"], f"milliseconds of a step of {told['batch_size']} images")


def _memory(told: Mapping[str, Any]) -> Figure:
    totals = {name: [total / 1e9] for name, total in told["pss_total_bytes"].items()}
    return bars({"the data itself": [told["data_bytes"] / 1e9], **totals}, "GB, proportional set size of all processes")


def _startup(told: Mapping[str, Any]) -> Figure:
    names = {
        "first_attempt_s": "tuner, first trial begins",
        "first_epoch_s": "tuner, first epoch",
        "end_s": "tuner, over",
    }
    return bars(
        {label: [entry[key] for entry in told["rounds"]] for key, label in names.items()}, "seconds after the command"
    )


def _many(told: Mapping[str, Any]) -> Figure:
    colours, window = style.palette(dark=False), told["window"]
    with style.canvas(2.6, dark=False) as figure:
        left, right = figure.subplots(1, 2)
        ends = [window * (number + 1) for number in range(1, len(told["window_s"]) + 1)]
        left.plot(ends, told["window_s"], "o-", color=colours.blue, ms=3)
        left.set(xlabel="trials ended", ylabel=f"seconds of {window:,} trials", ylim=(0, 1.08 * max(told["window_s"])))
        ended, held = ([sample[name] for sample in told["samples"]] for name in ("ended", "uss"))
        right.plot(ended, [bytes_ / 1e6 for bytes_ in held], color=colours.blue)
        right.set(xlabel="trials ended", ylabel="driver's own memory, MB", ylim=(0, None))
        for axes in (left, right):
            style.number_axis(axes.xaxis, ticks=4)
    return figure


DRAWN = {
    "short": _sweep,
    "medium": _sweep,
    "long": _long,
    "trivial": _trivial,
    "many": _many,
    "step": _step,
    "memory": _memory,
    "startup": _startup,
}
"""Part -> what draws it."""
