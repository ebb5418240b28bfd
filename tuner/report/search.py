"""How the search went, all trials, the failures, and how to reproduce it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from tuner import learnt, words
from tuner.analysis import figures
from tuner.analysis.diagnosis import Diagnosis
from tuner.history import RANKED, TrialRecord
from tuner.report.blocks import Block, Code, Picture, Section, Shown, Table, Text, column, numbers
from tuner.report.findings import SEARCHED, Findings, Missing
from tuner.spec.text import document


def search(found: Findings) -> Section:
    """Return counts, progress and curves."""
    return Section("search", "How the search went", tuple(_search(found)))


def _search(found: Findings) -> Iterator[Block]:
    results, trials, epochs = found.results, found.searched, found.epochs
    if not len(trials):
        yield Text("No trial has begun yet, so there is nothing to show.", weak=True)
        return
    yield Text(" ".join(_counts(found)))
    yield from _warm_start(found)
    yield from _rounds(found)
    diagnosis = found.diagnosis
    if isinstance(diagnosis, Missing):
        yield Text(f"The curves are not classed: {diagnosis.why}.", weak=True)
    else:
        yield from _diagnosis(diagnosis)
    if not len(epochs) or results.metric not in epochs:
        yield Text(f"No epoch with {results.metric} has been reported, so there are no curves.", weak=True)
    else:
        yield from _curves(found)
    yield Picture(
        "time_and_epochs",
        "Time and epochs of each trial",
        "A trial that ended before its first epoch is a mark on the line.",
        lambda dark: figures.draw_time_and_epochs(trials, dark=dark),
    )


def _warm_start(found: Findings) -> Iterator[Block]:
    """Yield which earlier runs the strategy learnt from when the sweep began."""
    told = [note["warm_start"] for note in found.results.history.notes if isinstance(note.get("warm_start"), dict)]
    if told:
        said = "; ".join(map(learnt.sentence, told))
        yield Text(f"Warm start: what earlier runs found was known to the search from its first trial on. {said}.")


def _rounds(found: Findings) -> Iterator[Block]:
    """Yield what each round of refinement changed in the space, and why."""
    rounds = [note["refine"] for note in found.results.history.notes if isinstance(note.get("refine"), dict)]
    changes = [(told.get("round"), change) for told in rounds for change in told.get("changes", ())]
    if rounds and not changes:
        yield Text("Refinement left the space as it was.")
    if not changes:
        return
    yield Table(
        "refinement",
        "What refinement changed",
        (
            column("round", [number for number, _ in changes]),
            *(
                column(title, [change.get(key, "") for _, change in changes])
                for title, key in (("parameter", "name"), ("before", "before"), ("after", "after"), ("why", "why"))
            ),
        ),
        most=50,
    )


# What each class of curve means for a person.
MEANINGS = {
    "good_fit": "learned and settled; train and validation agree",
    "still_improving": "more epochs would help",
    "overfitting": "validation gets worse, or falls behind, while training goes on",
    "underfitting": "settled above what others reach, also on train",
    "unstable": "jumps about",
    "not_learning": "never left its start",
    "diverged": "ended worse than it began, or not finite",
    "cannot_tell": "too few epochs to tell",
}


def _diagnosis(diagnosis: Diagnosis) -> Iterator[Block]:
    """Yield how many curves are of each class, and why the first of each is."""
    if diagnosis.note:
        yield Text(f"Curves: {diagnosis.note.rstrip('.')}.", weak=True)
    kinds = sorted(diagnosis.counts, key=lambda kind: -diagnosis.counts[kind])
    if not kinds:
        return
    first = {kind: next(t for t, curve in diagnosis.curves.items() if curve.kind == kind) for kind in kinds}
    yield Table(
        "curves",
        "What the curves show",
        (
            column("curve", [kind.replace("_", " ") for kind in kinds]),
            column("trials", [diagnosis.counts[kind] for kind in kinds]),
            column("meaning", [MEANINGS.get(kind, "") for kind in kinds]),
            column("such as", [f"{first[kind]}: {diagnosis.curves[first[kind]].why}" for kind in kinds]),
        ),
    )


def _counts(found: Findings) -> Iterator[str]:
    results, trials = found.results, found.searched
    yield f"{words.count(len(results.records()), 'trial')}: {words.states(results.counts())}."
    total, most = int(trials["epochs"].sum()), results.max_epochs * len(trials)
    if most:
        yield f"{words.count(total, 'epoch')} trained, {total / most:.0%} of what every trial to its end would take."
    seconds = float(trials["duration_s"].sum())
    yield f"{words.duration(seconds)} of training in all."
    if texts := results.sweep["sweep"].get("constraints"):
        met = sum(results.is_feasible(record) is True for record in results.records())
        yield f"Constraints: {'; '.join(texts)}; {words.count(met, 'trial')} met all of them at the best epoch."
    if stand := [f"{budget.text()} ({budget.key})" for budget in results.budgets()]:
        yield f"Budgets: {'; '.join(stand)}."
    whole = results.history
    if whole.started_at is not None and whole.last_at is not None:
        yield f"From the first row to the last: {words.duration(float(whole.last_at - whole.started_at))}."


def _curves(found: Findings) -> Iterator[Picture]:
    results, trials, epochs = found.results, found.searched, found.epochs
    metric, mode, best = results.metric, results.mode, found.best
    base = found.baseline.value if found.baseline else None
    name = best.trial if best else None
    yield Picture(
        "best_so_far",
        f"Best {metric} so far",
        "Against the number of the trial, and against time. Trials without a value, and those of the weakest fifth, "
        "lie on the edge of the worse side.",
        lambda dark: figures.draw_best_so_far(trials, epochs, metric, mode, baseline=base, dark=dark),
    )
    yield Picture(
        "learning_curves",
        "Learning curves of all trials",
        "The band holds 10 to 90 % of the trials that reached an epoch; it moves where weak ones are stopped.",
        lambda dark: figures.draw_learning_curves(trials, epochs, metric, mode, best=name, dark=dark),
    )
    if best is not None:
        yield Picture(
            "train_and_val",
            f"Train and validation of the best trial, {best.trial}",
            "The distance between the two is the gap; both are measured alike.",
            lambda dark: figures.draw_train_and_val(epochs, best.trial, metric, dark=dark),
        )


def all_trials(found: Findings) -> Section:
    """Return every trial, best first."""
    results = found.results
    records = sorted(results.records(), key=_order(found))
    if not records:
        return Section("trials", "All trials", (Text("There is no trial yet.", weak=True),))
    lead = Text(
        "A click on a heading sorts. Every column is in tables/trials.csv, every epoch in tables/epochs.csv."
        + (
            " Folds and final trainings are measured on other samples, so they stand after the others."
            if any(record.stage not in SEARCHED for record in records)
            else ""
        )
    )
    table = Table(
        "", f"{words.count(len(records), 'trial')}, best first", tuple(_columns(found, records)), sortable=True
    )
    return Section("trials", "All trials", (lead, table))


def _order(found: Findings) -> Any:
    metric, mode = found.results.metric, found.results.mode
    sign = 1.0 if mode == "min" else -1.0

    def place(record: TrialRecord) -> tuple[bool, bool, float, int]:
        value = record.best_value(metric, mode)
        without = record.status == "failed" or value is None or found.results.is_feasible(record) is False
        return record.stage not in SEARCHED, without, sign * value if value is not None else 0.0, record.number

    return place


def _columns(found: Findings, records: list[TrialRecord]) -> Iterator[Shown]:
    results = found.results
    metric, mode = results.metric, results.mode
    yield column("trial", [record.trial for record in records])
    if len({record.stage for record in records}) > 1:
        yield column("stage", [record.stage for record in records])
    yield column("status", [results.status_of(record) for record in records])
    yield numbers(metric, [record.best_value(metric, mode) for record in records])
    yield column("at epoch", [record.best_epoch(metric, mode) for record in records])
    yield column("epochs", [len(record.epochs) for record in records])
    yield column("seconds", [round(record.duration_s, 1) for record in records])
    for name in found.varied:
        yield column(name, [record.config.get(name) for record in records])
    if results.history.constraints:
        told = {True: "yes", False: "no", None: "-"}
        yield column("feasible", [told[results.is_feasible(record)] for record in records])
    if any(record.cause for record in records):
        yield column("cause", [record.cause for record in records])


def failures(found: Findings) -> Section:
    """Return what failed, by cause."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in found.results.records():
        if record.status == "failed":
            groups.setdefault(record.cause or "unknown", []).append(record)
    if not groups:
        return Section("failures", "Failures by cause", (Text("No trial has failed."),))
    causes = sorted(groups, key=lambda cause: -len(groups[cause]))
    first = [groups[cause][0] for cause in causes]
    table = Table(
        "failures",
        "Failures by cause",
        (
            column("cause", causes),
            column("trials", [len(groups[cause]) for cause in causes]),
            column("such as", [", ".join(record.trial for record in groups[cause][:5]) for cause in causes]),
            column("what the first said", [words.cut(record.error or "", 300) for record in first]),
            column("its log", [f"logs/{record.trial}-{record.attempts}.log" for record in first]),
        ),
    )
    note = Text(
        "A strategy learns from config.* failures and a second timeout; what the infrastructure did says nothing "
        "of a config."
    )
    return Section("failures", "Failures by cause", (table, *_regions(found), note))


def _regions(found: Findings) -> Iterator[Block]:
    """Yield where in the space every config failed by its own fault."""
    from tuner.strategies.regions import sentences

    names = found.known_space.names()
    tried = [
        ({name: value for name, value in record.config.items() if name in names}, record.status == "failed")
        for record in found.results.records()
        if record.status in RANKED or (record.status == "failed" and not is_infrastructure(record))
    ]
    if regions := sentences(found.known_space, tried):
        yield Text(f"Where no config came through: {'; '.join(regions)}.")


def is_infrastructure(record: TrialRecord) -> bool:
    """Return whether a failed trial says nothing of its config."""
    return (record.cause or "").startswith("infrastructure.")


def reproduce(found: Findings) -> Section:
    """Return commands, seed, versions and the sweep itself."""
    return Section("reproduce", "How to reproduce it", tuple(_reproduce(found)))


def _reproduce(found: Findings) -> Iterator[Block]:
    results, entry = found.results, found.provenance
    command = entry.get("command")
    if isinstance(command, list) and command:
        yield Text("It was started with:")
        yield Code(shlex.join(str(part) for part in command))
    yield Text("Run it again from what is frozen in the run folder, and go on with it:")
    seed = results.sweep["sweep"].get("seed", 0)
    folder = shlex.quote(str(results.folder))
    yield Code(
        f"tuner run {shlex.quote(str(results.folder / 'sweep.toml'))}\ntuner resume {folder}\ntuner report {folder}"
    )
    rows = [("seed", str(seed)), *_versions(found)]
    if results.history.overrides:
        rows.append(("changed by resumes", " ".join(results.history.overrides)))
    yield Table(
        "versions",
        "Seed, versions and machine",
        (column("what", [row[0] for row in rows]), column("value", [row[1] for row in rows])),
        most=100,
    )
    if not entry:
        yield Text("provenance.json is damaged or gone, so versions and commit are not known.", weak=True)
    yield Text("The sweep, as it was frozen:")
    yield Code(document(_tables(results.sweep)).rstrip("\n"))


def _tables(sweep: Any) -> dict[str, Any]:
    return {str(name): table for name, table in sweep.items() if isinstance(table, dict)}


def _versions(found: Findings) -> Iterator[tuple[str, str]]:
    entry = found.provenance
    for name in ("commit", "tuner", "python", "created_at", "sweep_sha256"):
        if entry.get(name) is not None:
            yield name, str(entry[name])
    for name in ("packages", "hardware"):
        table = entry.get(name)
        if isinstance(table, dict):
            yield from ((str(key), str(value)) for key, value in table.items() if value is not None)
