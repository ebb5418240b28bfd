"""docs/performance.md, written from the benchmark's JSON: every figure in it is one of benchmarks/results/."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import figures
from benchmarks.speed.claims import NOT_MEASURED, Found, claims, cost
from benchmarks.speed.names import AUTO

HERE = Path(__file__).parent
RESULTS = Path("benchmarks/results")
PAGE = Path("docs/performance.md")
FIGURES = Path("docs/performance")
PARTS = ("short", "medium", "long", "trivial", "many", "step", "memory", "startup")


def read(folder: Path = RESULTS) -> Found:
    """Return the JSON of every part that has been run."""
    files = {**{part: folder / f"speed_{part}.json" for part in PARTS}, "lanes": folder / "lanes.json"}
    return {part: json.loads(path.read_text()) for part, path in files.items() if path.exists()}


def write_all() -> list[Path]:
    """Write the page and its figures; returns the files."""
    found = read()
    PAGE.write_text(page(found))
    return [PAGE, *figures.draw_all(found, FIGURES)]


def page(found: Found) -> str:
    """Return docs/performance.md."""
    head, method = ((HERE / f"page_{name}.md").read_text() for name in ("head", "method"))
    return "\n".join(part.strip() + "\n" for part in (head, _must_hold(found), *map(_section(found), SECTIONS), method))


def _must_hold(found: Found) -> str:
    words = {True: "yes", False: "**no**", None: "-"}
    rows = [(claim.what, claim.asked, claim.measured, words[claim.holds]) for claim in claims(found)]
    return "## What must hold\n\n" + _table(("what", "asked", "measured", "holds"), rows)


def _section(found: Found) -> Callable[[str], str]:
    def section(part: str) -> str:
        title, body = SECTIONS[part]
        told = found.get(part)
        if part == "lanes":
            return f"## {title}\n\n{_lanes(told or {})}"
        if told is None:
            remedy = f"`python -m benchmarks.speed {part} page` measures it and writes it here."
            return f"## {title}\n\n{NOT_MEASURED.capitalize()} yet. {remedy}"
        picture = f"![{title}](performance/{part}.png)" if part in figures.DRAWN else ""
        return "\n\n".join(filter(None, (f"## {title}", body(told), picture, made_with(told))))

    return section


def made_with(told: Mapping[str, Any]) -> str:
    """Return what a part was measured on and with."""
    hardware = told["hardware"]
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    gpu = "no GPU" if hardware["gpu"] == "none" else hardware["gpu"]
    bf16 = "no bfloat16" if hardware["bf16"] == "none" else f"bfloat16 by {hardware['bf16'].upper()}"
    busy = "" if told["load_before"] < 0.5 else f" The machine was not idle before: its load was {told['load_before']}."
    quick = " **A quick look, which measures nothing.**" if told["quick"] else ""
    return (
        f"n = {told['n']}, {told['date']}, {told['minutes']} minutes. {hardware['cpu']}, {hardware['cores']} cores, "
        f"{hardware['memory_gb']} GB, {bf16}, {gpu}. {versions}. Made by `{told['command']}`.{busy}{quick}"
    )


def _sweep(told: Mapping[str, Any]) -> str:
    work = (
        f"{told['trials']} trials x {told['epochs']} epochs on {told['train_images']:,} training and "
        f"{told['val_images']:,} validation images ({told['data']}). Seconds are from spawn to exit, the median of the "
        "rounds."
    )
    ours = list(told["ratios"])
    head = ["", "seconds", "rounds", *(f"times as long as {name}" for name in ours), "accuracy", "best"]
    head += [f"{ours[0]}'s accuracy is higher by"] if ours else []
    by_median = sorted(told["medians"], key=lambda name: told["medians"][name])
    rows = [_sweep_row(told, name, ours) for name in by_median]
    missing = [f"{name}: {why}." for name, why in told["missing"].items()]
    chosen = told["precision_chosen"].get(AUTO)
    auto = f'"{AUTO}" has precision = "auto", which became {chosen} there.' if chosen not in (None, "auto") else ""
    return "\n\n".join(filter(None, (work, _table(head, rows), auto, *missing)))


def _sweep_row(told: Mapping[str, Any], name: str, ours: Sequence[str]) -> list[str]:
    gap = told.get("accuracy_difference", {}).get(name)
    n = sum(seconds is not None for seconds in told["seconds"][name])
    row = [name, f"{told['medians'][name]:.1f}", str(n)]
    row += [_number(told["ratios"][one][name], 2) for one in ours]
    row += [f"{told['accuracy'][name]:.3f}", f"{told['best_accuracy'][name]:.3f}"]
    return [*row, f"{gap['mean']:+.3f} ± {gap['standard_error']:.3f}" if gap else ""] if ours else row


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _long(told: Mapping[str, Any]) -> str:
    m = told["medians"]
    rows = [
        ("a lone trial, the other cores idle", f"{m['lone_trial_s']:.2f} s"),
        ("a trial beside another, in two plain processes", f"{m['beside_another_s']:.2f} s"),
        (f"the sweep of {told['trials']} trials, from spawn to exit", f"{m['sweep_s']:.1f} s"),
        ("of which from the first trial's begin to the last one's end", f"{m['from_first_trial_s']:.1f} s"),
        ("share of cores x the lone trial's speed", f"{m['of_cores_x_lone']:.3f}"),
        ("the same without start and exit", f"{m['of_cores_x_lone_without_start']:.3f}"),
        ("share of what two plain processes at once do", f"{m['of_processes_side_by_side']:.3f}"),
    ]
    return _table(("", "median"), rows)


def _trivial(told: Mapping[str, Any]) -> str:
    rows = [
        (name, cost(ms, 1), ", ".join(f"{one:.1f}" for one in told["trial_ms"][name]))
        for name, ms in told["trial_ms_median"].items()
    ]
    reports = (
        f"A report costs {told['report_ms_median']:.2f} ms ({told['reports_per_s']} a second), two trials at a time."
    )
    return _table(("one more trial of one report", "median", "rounds"), rows) + "\n\n" + reports


def _many(told: Mapping[str, Any]) -> str:
    rows = [
        ("the whole sweep", f"{told['sweep_s']:.0f} s"),
        (
            "the driver's own memory, by a line through all samples",
            f"{told['growth_bytes_a_trial'] / 1000:.1f} KB a trial",
        ),
        ("through those of the second half", f"{told['growth_bytes_a_trial_second_half'] / 1000:.1f} KB a trial"),
        ("the journal", f"{told['journal_bytes_a_trial'] / 1000:.1f} KB a trial"),
        (f"seconds of each further {told['window']:,} trials", ", ".join(f"{s:.1f}" for s in told["window_s"])),
        (
            "seconds that the driver's processor was busy for as many trials",
            ", ".join(f"{s:.1f}" for s in told["driver_cpu_s"]),
        ),
    ]
    return _table((f"{told['trials']:,} trials x {told['reports']} reports", ""), rows)


def _step(told: Mapping[str, Any]) -> str:
    rows = [(name, f"{ms:.2f} ms", f"{told['times_faster'][name]:.2f}") for name, ms in told["step_ms_median"].items()]
    head = (f"a step of {told['batch_size']} images, one thread", "median", "times as fast as the eager loop")
    return _table(head, rows)


def _memory(told: Mapping[str, Any]) -> str:
    kinds = sorted({kind for look in told["pss_bytes"].values() for kind in look})
    rows = [
        [name, *(f"{look.get(kind, 0) / 1e6:,.0f}" for kind in kinds), f"{sum(look.values()) / 1e6:,.0f}"]
        for name, look in told["pss_bytes"].items()
    ]
    by_kind = ", ".join(f"{kind} {times:.2f}" for kind, times in told["data_held_times_by_kind"].items())
    held = f"The data's {told['data_bytes'] / 1e9:.2f} GB are in memory {told['data_held_times']:.2f} times: {by_kind}."
    extra = f"An extra trial takes {told['bytes_an_extra_trial'] / 1e6:,.0f} MB."
    return _table(["MB, proportional set size", *kinds, "all"], rows) + f"\n\n{held} {extra}"


def _startup(told: Mapping[str, Any]) -> str:
    m = told["medians"]
    rows = [
        ("the run folder is made", f"{m['run_folder_s']:.2f} s"),
        ("the first trial begins", f"{m['first_attempt_s']:.2f} s"),
        ("its first epoch is in the journal", f"{m['first_epoch_s']:.2f} s"),
        ("a sweep of two trials is over", f"{m['end_s']:.2f} s"),
    ]
    timing = (
        f"\n\n`tuner run --timing` of the last round:\n\n```text\n{told['timing'].strip()}\n```"
        if told["timing"]
        else ""
    )
    return _table(("after `tuner run`", "median"), rows) + timing


def _lanes(told: Mapping[str, Any]) -> str:
    """Return what `benchmarks.lanes` found, on a CPU and on a GPU."""
    text = [
        "Trials of one shape trained side by side as lanes of one model, against one trial at a time. `make lanes`."
    ]
    for prefix, name, remedy in (("cpu", "One CPU core", "yet"), ("gpu", "On a GPU", "there was no GPU")):
        parts = {part: told[f"{prefix}_{part}"] for part in LANE_PARTS if f"{prefix}_{part}" in told}
        text.append(f"### {name}")
        text += [f"{NOT_MEASURED.capitalize()}{' ' if remedy == 'yet' else ': '}{remedy}."] if not parts else []
        text += [LANE_PARTS[part](part_told["found"]) for part, part_told in parts.items()]
        text += sorted({_lanes_made_with(part_told) for part_told in parts.values()})
    return "\n\n".join(text)


def _lanes_made_with(told: Mapping[str, Any]) -> str:
    return (
        f"n = {told['n']}, batches of {told['batch']}. {told['hardware']}. python {told['python']}, "
        f"torch {told['torch']}. Made by `python -m benchmarks.lanes`."
    )


def _groups(found: Mapping[str, Any]) -> str:
    head = ("images", "lanes", "epochs a second, one trial at a time", "with lanes", "times as many")
    return _table(
        head,
        [
            (
                name,
                f"{row['lanes']}",
                f"{row['lone_epochs_per_s']:.2f}",
                f"{row['lane_epochs_per_s']:.2f}",
                f"{row['ratio']:.2f}",
            )
            for name, figures in found.items()
            for row in figures["rows"]
        ],
    )


def _processes(found: Mapping[str, Any]) -> str:
    head = ("images", "processes", "epochs a second", "lanes", "epochs a second with lanes", "times as many")
    return _table(
        head,
        [
            (name, f"{f['processes']}", f"{f['process_epochs_per_s']:.2f}", f"{f['lanes']}",
             f"{f['lane_epochs_per_s']:.2f}", f"{f['ratio']:.2f}")
            for name, f in found.items()
        ],
    )  # fmt: skip


def _loader(found: Mapping[str, Any]) -> str:
    head = ("images", "a pass of a DataLoader loop", "of a lone trial", "times as fast")
    rows = [(name, f"{f['loader_s']:.2f} s", f"{f['lone_s']:.2f} s", f"{f['ratio']:.2f}") for name, f in found.items()]
    return _table(head, rows)


LANE_PARTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "lanes": _groups,
    "processes": _processes,
    "loader": _loader,
}
"""The parts of lanes.json, each after "cpu_" or "gpu_", and the table that each becomes."""

SECTIONS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "short": ("Short sweep", _sweep),
    "medium": ("Medium sweep", _sweep),
    "long": ("Long sweep", _long),
    "trivial": ("A trial and a report by themselves", _trivial),
    "many": ("10,000 trials", _many),
    "step": ("A training step", _step),
    "memory": ("Memory", _memory),
    "startup": ("Start-up", _startup),
    "lanes": ("Lanes", _lanes),
}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
