"""The first part of a report: the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tuner import words
from tuner.analysis import figures
from tuner.report.blocks import Block, Code, Fact, Facts, Picture, Section, Table, Text, Warn, column
from tuner.report.findings import Findings, Missing, Winner
from tuner.results import Best
from tuner.spec.text import table


def answer(found: Findings) -> Section:
    """Return the best config, its scores, and what they stand against."""
    return Section("answer", "The answer", tuple(_blocks(found)))


def _blocks(found: Findings) -> Iterator[Block]:
    yield from (Warn(text) for text in warnings(found))
    best = found.best
    if best is None:
        met = " that meets the constraints" if found.results.history.constraints else ""
        yield Text(
            f"There is no best config: no trial{met} has completed, or was stopped, with a finite "
            f"{found.results.metric}."
        )
        return
    winner = found.winner or Winner(best.config, best.trial)
    yield Facts(tuple(_facts(found, best)))
    if found.overruled:
        yield Text(
            f"The search's best validation score is {best.trial}'s, but over the folds another config has the best "
            f"mean ({winner.trial}{', retrained' if winner.retrained else ''}), and it is the one to take: the folds "
            "compare configs more fairly than one validation split does."
        )
    yield _config(found, best, winner)
    yield Text("The same as TOML, exact, to paste into [defaults] or into search.points:")
    yield Code(table(winner.config).rstrip("\n"))
    yield from _pareto(found)
    folder = found.results.folder / ("final" if (found.results.folder / "final").is_dir() else "best")
    if folder.is_dir():
        files = words.names(sorted(path.name for path in folder.iterdir()))
        yield Text(f"Its model and its files are in {folder.name}/ of the run folder: {files}.")


def _pareto(found: Findings) -> Iterator[Block]:
    """Yield, of a sweep with several objectives, the configs that none beats in all of them."""
    results, objectives = found.results, found.results.history.objectives
    if not objectives:
        return
    front = results.pareto()
    if not front:
        yield Text("No trial has a finite value of each objective, so there is no Pareto set.", weak=True)
        return
    ways = ", ".join(f"{name} ({way})" for name, way in {results.metric: results.mode, **objectives}.items())
    yield Table(
        "pareto",
        f"The Pareto set by {ways}: no config is better than one of these in one objective and no worse in the others",
        (
            column("trial", [one.ranked.trial.trial for one in front]),
            *(column(name, [one.values[name] for one in front]) for name in front[0].values),
            *(column(name, [one.ranked.trial.config.get(name) for one in front]) for name in found.varied),
        ),
    )
    trials, metric = found.searched, results.metric
    yield Picture(
        "pareto",
        "What each objective costs",
        "Each point is a trial at its best epoch; those of the Pareto set are filled.",
        lambda dark: figures.draw_pareto(trials, metric, tuple(objectives), dark=dark),
    )


def warnings(found: Findings) -> Iterator[str]:
    """Yield what makes all that follows provisional."""
    results = found.results
    counts, total = results.counts(), len(results.records())
    over = sum(counts.get(state, 0) for state in ("completed", "stopped", "failed"))
    states = words.states(counts)
    if results.status == "running":
        yield f"This sweep is still running: {over} of {words.count(total, 'trial')} begun so far are over ({states})."
    elif results.status == "interrupted":
        yield f"This sweep was interrupted ({states or 'no trial yet'}). Go on with it: tuner resume RUN."
    elif results.status == "failed":
        yield f"This sweep failed: no trial completed ({states or 'no trial'})."
    failed = counts.get("failed", 0)
    if failed and 2 * failed >= max(1, over) and results.status != "failed":
        yield f"{failed} of {words.count(over, 'trial')} that are over failed; see the failures by cause."
    if found.openings > 1:
        yield (
            f"The test split was opened {found.openings} times, so its score is no longer that of data never seen: "
            "each look lets a person choose by it."
        )


def _facts(found: Findings, best: Best) -> Iterator[Fact]:
    results = found.results
    mean = f"mean of {words.count(best.repeats, 'repeat')}, " if best.repeats > 1 else ""
    note = f"{best.trial}, {mean}epoch {best.epoch} of at most {results.max_epochs}; {words.best_of(best.of)}"
    test, corrected = _test(found), found.corrected
    if isinstance(corrected, Missing):
        yield Fact("corrected score", "-", f"not corrected: {corrected.why}")
    else:
        between = f"95 % interval {words.number(corrected.low)} to {words.number(corrected.high)}"
        between += f"; of the search's best, {best.trial}" if found.overruled else ""
        yield Fact(f"{results.metric}, corrected", words.number(corrected.score), between, isinstance(test, Missing))
    if isinstance(test, Missing):
        yield Fact("test score", "-", test.why)
    else:
        yield Fact(f"test {results.metric.removeprefix('val_')}", words.number(test[0]), test[1], main=True)
    yield from _over_folds(found)
    unsure = isinstance(test, Missing) and isinstance(corrected, Missing)
    yield Fact(f"{results.metric}, as searched", words.number(best.value), note, main=unsure)
    yield _against(found, best)


def _over_folds(found: Findings) -> Iterator[Fact]:
    """Yield the winner's mean over the folds."""
    raced = found.folds
    if isinstance(raced, Missing) or raced.leader is None or raced.race.last is None:
        return
    blocks = words.count(len(raced.race.last.blocks), "(seed, fold) block")
    chance = raced.race.probability_best.get(raced.leader)
    best = f"; best of {len(raced.configs)} with probability {chance:.0%}" if chance is not None else ""
    note = f"{raced.first[raced.leader]}'s config, mean over {blocks}{best}; still search-biased"
    yield Fact(f"{found.results.metric}, cross-validated", words.number(raced.means[raced.leader]), note)


def lines(found: Findings) -> tuple[str, ...]:
    """Return the three lines that matter: the config, what it is worth, and what that stands against."""
    best = found.best
    if best is None:
        return tuple(block.text for block in _blocks(found) if isinstance(block, Text | Warn))[:3]
    facts = list(_facts(found, best))
    facts.sort(key=lambda fact: not fact.main)
    worth = [f"{fact.label}: {fact.value}" + (f" ({fact.note})" if fact.note else "") for fact in facts]
    winner = found.winner or Winner(best.config, best.trial)
    searched = {name: value for name, value in winner.config.items() if name in found.varied} or winner.config
    return f"best: {winner.trial}, {words.config_line(searched)}", worth[0], worth[-1]


def _against(found: Findings, best: Best) -> Fact:
    """Return how the best config stands to the baseline: on the test split, else on validation."""
    base = found.baseline
    if base is None:
        return Fact("against the baseline", "-", "no baseline was run (a study runs [defaults] first)")
    if found.winner is not None and found.winner.config == base.trial.config:
        return Fact("against the baseline", words.number(0.0), "the baseline's config is the winner")
    paired = None if isinstance(found.final, Missing) else _paired(found.final.get("difference"), found.results.mode)
    if paired is not None:
        return paired
    better = best.value - base.value if found.results.mode == "max" else base.value - best.value
    value, who = words.number(base.value), f"{base.trial.trial}, {words.count(base.repeats, 'trial')}"
    how = "better" if better > 0 else "worse"
    return Fact("against the baseline", words.number(abs(better)), f"{how} than its {value} on validation ({who})")


def _test(found: Findings) -> tuple[float, str] | Missing:
    """Return the winner's score on the test split and what it stands against."""
    final = found.final
    if isinstance(final, Missing):
        return final
    metric = found.results.metric
    winner = final.get("winner") or final.get("test") or final
    score = _score(winner, metric)
    if score is None:
        return Missing(f"final/metrics.json holds no {metric.removeprefix('val_')} on the test split")
    notes = [f"on {final['n_test']} samples never seen"] if isinstance(final.get("n_test"), int) else []
    low, high = _interval(final, metric)
    if low is not None and high is not None:
        notes.append(f"95 % interval {words.number(low)} to {words.number(high)}")
    baseline = _score(final.get("baseline"), metric)
    if baseline is not None:
        same = found.winner and found.baseline and found.winner.config == found.baseline.trial.config
        notes.append("the winner is the baseline" if same else f"the baseline has {words.number(baseline)} there")
    return score, "; ".join(notes) or "measured on the test split"


def _paired(paired: Any, mode: str) -> Fact | None:
    """Return by how much the winner is ahead of the baseline on the test split, above 0 where it is better."""
    keys = ("difference", "low", "high", "level")
    told = [paired.get(key) for key in keys] if isinstance(paired, Mapping) else []
    values = [float(value) for value in told if isinstance(value, int | float) and math.isfinite(value)]
    if len(values) < len(keys):
        return None
    difference, low, high, level = values
    if mode == "min":  # it is winner - baseline, so a smaller error is below 0
        difference, low, high = -difference, -high, -low
    how = "better" if low > 0 else "worse" if high < 0 else "too close to call"
    note = f"{how}; {level:.0%} paired interval {words.number(low)} to {words.number(high)}, on the same test samples"
    return Fact("against the baseline, on test", f"{'+' if difference > 0 else ''}{words.number(difference)}", note)


def _score(table: Any, metric: str) -> float | None:
    """Return a metric by its own name, or by that of another split."""
    if not isinstance(table, Mapping):
        return None
    short = metric.removeprefix("val_")
    for name in (f"test_{short}", short, metric):
        value = table.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return _score(table["metrics"], metric) if isinstance(table.get("metrics"), Mapping) else None


def _interval(final: Mapping[str, Any], metric: str) -> tuple[float | None, float | None]:
    found = final.get("interval")
    if isinstance(found, list) and len(found) == 2 and all(isinstance(end, int | float) for end in found):
        return float(found[0]), float(found[1])
    return None, None


def _config(found: Findings, best: Best, winner: Winner) -> Table:
    """Return the config to take beside the others, what was searched first."""
    base = found.baseline
    shown = {"best": winner.config}
    if found.overruled:
        shown["best of the search"] = best.config
    if base is not None and base.trial.config not in shown.values():
        shown["baseline"] = base.trial.config
    elif base is not None and base.trial.config == winner.config:
        shown = {"best (the baseline)" if name == "best" else name: config for name, config in shown.items()}
    known = dict.fromkeys(name for config in shown.values() for name in config)
    names = sorted(known, key=lambda name: name not in found.varied)
    columns = [
        column("parameter", names),
        *(column(title, [config.get(name) for name in names]) for title, config in shown.items()),
        column("searched", ["yes" if name in found.varied else "fixed" for name in names]),
    ]
    return Table("best_config", "The best config", tuple(columns), most=100)
