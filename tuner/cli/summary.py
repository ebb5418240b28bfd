"""What a sweep that has ended shows: the best trial, what failed, where it all is, what to type next."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from tuner.cli import words
from tuner.cli.copying import command, path_text
from tuner.history import RANKED, Ranked, TrialRecord, ranking
from tuner.openings import openings
from tuner.results import Best, Results

if TYPE_CHECKING:
    from tuner.spec import Sweep


def summary(results: Results, sweep: Sweep, seconds: float) -> Iterator[Text]:
    """Yield the lines of the end of a sweep.

    Args:
        results: The ended sweep's results.
        sweep: The sweep, for its baseline.
        seconds: How long this session took.
    """
    total = len(results.records())
    yield Text.assemble(
        (results.name, "bold"),
        f": {words.count(total, 'trial')} in {words.duration(seconds)}: ",
        words.states(results.counts()),
    )
    for note in results.history.notes:
        if "over" in note:
            yield Text(f"ended by  {note['over']}")
    idle = [note["idle_s"] for note in results.history.notes if "idle_s" in note]
    if idle:
        waited = f"workers waited {words.duration(idle[-1])} in all for results in their order"
        yield Text(f"          deterministic: {waited}")
    for budget in results.budgets():
        yield Text(f"budget    {budget.text()} ({budget.key})")
    if best := _best(results):
        yield Text()
        yield from _best_lines(results, sweep, best)
    elif results.history.constraints and any(record.status in RANKED for record in results.records()):
        yield Text(
            f"best      none: no config meets the constraints ({'; '.join(results.sweep['sweep']['constraints'])})"
        )
    if tested := list(_test_lines(results)):
        yield Text()
        yield from tested
    failures = list(failure_lines(results))
    if failures:
        yield Text()
        yield from failures
    yield Text()
    yield Text(f"folder    {path_text(results.folder)}")
    yield Text()
    yield from (Text(f"  {line}") for line in next_commands(results))


def _best(results: Results) -> Best | None:
    from tuner.errors import TunerError

    try:
        return results.best()
    except TunerError:
        return None


def _best_lines(results: Results, sweep: Sweep, best: Best) -> Iterator[Text]:
    repeats = f", mean of {best.repeats} repeats" if best.repeats > 1 else ""
    yield Text.assemble(
        "best      ",
        (f"{best.metric} {words.number(best.value)}", "bold green"),
        f" at epoch {best.epoch} ({best.trial}{repeats}; {words.best_of(best.of)})",
    )
    baseline = sweep.baseline()
    ran = baseline_entry(results, baseline)
    other = ran is not None and ran.trial.config != best.config
    if ran is not None:
        epoch = ran.trial.best_epoch(results.metric, results.mode)
        note = "" if other else "; it is the best"
        yield Text(f"baseline  {best.metric} {words.number(ran.value)} at epoch {epoch} ({ran.trial.trial}{note})")
    yield Text()
    yield from config_table(best.config, fixed_names(results), baseline if other else None)


def _test_lines(results: Results) -> Iterator[Text]:
    """Yield what a study's newest opening of the test split has shown, and which it was."""
    noted = [note["test_scores"] for note in results.history.notes if "test_scores" in note]
    if not noted:
        return
    scores, metric = noted[-1]["scores"], results.metric.replace("val_", "test_", 1)
    winner, baseline = scores[str(noted[-1]["winner"])].get(metric), scores.get("0", {}).get(metric)
    other = "; the baseline is the winner" if noted[-1]["winner"] == 0 else f"; baseline {words.number(baseline)}"
    yield Text.assemble(
        "test      ",
        (f"{metric} {words.number(winner)}", "bold green"),
        f" on {noted[-1]['samples']} sealed samples, retrained on all others{other}",
    )
    if (count := openings(results.history.notes).count) > 1:
        yield Text(f"          opened {count} times, so these samples are no longer unseen")
    yield from overruled_lines(results, _best(results))


def overruled_lines(results: Results, best: Best | None) -> Iterator[Text]:
    """Yield the config that a study has retrained, where its folds put another than the search's best first."""
    winner = results.retrained()
    if winner is None or best is None or winner.config == best.config:
        return
    whose = "the baseline's config" if winner.proposal == 0 else f"the config of {winner.trial}"
    yield Text()
    yield Text(f"The folds put {whose} first, so that was retrained and tested, not {best.trial}'s:")
    yield Text()
    yield from config_table(winner.config, fixed_names(results), best.config, best.trial)


def config_table(
    config: Mapping[str, Any],
    fixed: Collection[str] = (),
    baseline: Mapping[str, Any] | None = None,
    called: str = "baseline",
) -> Iterator[Text]:
    """Yield a config, a parameter a line: what was searched, then what was fixed.

    Args:
        config: The config.
        fixed: Names that the space fixes.
        baseline: Another config, whose values are put beside those that differ; or None.
        called: What that other one is called.
    """
    width = max(map(len, config), default=0)
    shown = {name: words.value(config[name]) for name in sorted(config, key=lambda name: name in fixed)}
    room = max(map(len, shown.values()), default=0)
    for name, text in shown.items():
        note = "fixed" if name in fixed else ""
        if baseline is not None and name in baseline and (other := words.value(baseline[name])) != text:
            note = f"{called} {other}"
        line = Text(f"  {name:<{width}}  {text:<{room}}")
        line.append(f"  {note}", style="dim")
        line.rstrip()
        yield line


def fixed_names(results: Results) -> frozenset[str]:
    """Return the parameters that have one value by the sweep's own word: fixed in [space], or set in [defaults]."""
    space = results.sweep.get("space", {})
    searched = frozenset(_searched(space))
    return frozenset({**results.sweep.get("defaults", {}), **space}) - searched if searched else frozenset()


def _searched(space: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that a space varies, those of its branches included."""
    for name, domain in space.items():
        if isinstance(domain, Mapping):
            yield name
            for branch in domain.get("when", {}).values():
                yield from _searched(branch)


def baseline_entry(results: Results, baseline: Mapping[str, Any]) -> Ranked | None:
    """Return the place of the config that has the baseline's values, or None where it did not run to an end.

    What the space fixes is the same in every trial, so it does not count.
    """
    fixed = fixed_names(results)
    for entry in ranking(results.records(), results.metric, results.mode):
        searched = {name: item for name, item in entry.trial.config.items() if name not in fixed}
        if searched and all(name in baseline and _equal(item, baseline[name]) for name, item in searched.items()):
            return entry
    return None


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def failure_lines(results: Results, width: int = 160) -> Iterator[Text]:
    """Yield what failed, by cause: how often, what one of its trials said, and where its traceback is."""
    causes: dict[str, list[TrialRecord]] = {}
    for record in results.records():
        if record.status == "failed":
            causes.setdefault(record.cause or "unknown", []).append(record)
    for cause, records in sorted(causes.items(), key=lambda item: -len(item[1])):
        first = records[0]
        such = ", such as " if len(records) > 1 else ", "
        example = words.cut(f"{first.trial}: {first.error or ''}", width)
        yield Text.assemble("failed    ", (f"{len(records)} {cause}", "red"), such, example)
        log = results.folder / "logs" / f"{first.trial}-{first.attempts}.log"
        if log.is_file():
            yield Text(f"          {path_text(log)}")


def next_commands(results: Results) -> Iterator[str]:
    """Yield three commands to copy."""
    more = max(2 * _configs(results), 2)
    if results.history.study:
        yield command("report", results.folder)
    else:
        yield command("show", results.folder)
    yield command("export", results.folder, "--trials", "trials.csv", "--epochs", "epochs.csv")
    if results.history.study:
        yield command("best", results.folder)
    elif spent := [
        budget for budget in results.budgets() if budget.is_spent and budget.key != "resources.time_budget_s"
    ]:
        larger = [f"{budget.key}={2 * budget.limit:.15g}" for budget in spent]
        yield command("resume", results.folder, *(part for text in larger for part in ("--set", text)))
    elif (reached := _target_reached(results)) is not None:  # more trials alone would not go on
        all_begun = _configs(results) >= _as_changed(results)["search"]["trials"]
        better = f"stopping.target.value={_better(reached, results.mode)}"
        yield command("resume", results.folder, *(("--trials", str(more)) if all_begun else ()), "--set", better)
    else:
        yield command("resume", results.folder, "--trials", str(more))


def _target_reached(results: Results) -> float | None:
    """Return the best value of a sweep that has reached its target; None for any other."""
    stopping, metric, mode = _as_changed(results).get("stopping", {}), results.metric, results.mode
    if "target" not in stopping.get("rules", ()):
        return None
    feasible = (record for record in results.records() if results.is_feasible(record) is not False)
    values = [record.best_value(metric, mode) for record in feasible]
    known = [value for value in values if value is not None]
    if not known:
        return None
    wanted, best = stopping["target"]["value"], max(known) if mode == "max" else min(known)
    return best if (best >= wanted if mode == "max" else best <= wanted) else None


def _as_changed(results: Results) -> Mapping[str, Any]:
    """Return the sweep's tables with what resumes have changed of them."""
    from tuner.spec.files import override

    tables = copy.deepcopy(dict(results.sweep))
    for text in results.history.overrides:
        override(tables, text, [])
    return tables


def _better(value: float, mode: str) -> str:
    """Return a value that is somewhat better: a tenth of it, or of what is missing to 1."""
    room = 1 - value if mode == "max" and 0 < value < 1 else abs(value) or 1.0
    return f"{value + (0.1 if mode == 'max' else -0.1) * room:.3g}"


def _configs(results: Results) -> int:
    return len({record.proposal for record in results.records()})


def verdict(results: Results, strict: bool) -> tuple[int, str]:
    """Return a sweep's exit status, and the sentence that says why it is worth a look; "" where all went well.

    Args:
        results: The ended sweep's results.
        strict: Whether any failed trial counts.
    """
    failed = [record for record in results.records() if record.status == "failed"]
    lost = results.lost()
    name, trials = path_text(results.folder), words.count(len(results.records()), "trial")
    if results.status == "failed":
        if not failed:
            return 1, f"{name}: no trial completed."
        first = failed[0]
        why = f" {first.trial}: {words.cut(first.error or '', 300)}"
        return 1, f"{name}: no trial completed; {len(failed)} of {trials} failed ({_causes(failed)}).{why}"
    if lost:
        what = "was" if lost == 1 else "were"
        return 3, f"{name}: {lost} of {trials} {what} lost to infrastructure or timeouts ({_causes(failed)})."
    if failed:
        return 3 if strict else 0, f"{name}: {len(failed)} of {trials} failed by their config ({_causes(failed)})."
    return 0, ""


def _causes(failed: list[TrialRecord]) -> str:
    causes: dict[str, int] = {}
    for record in failed:
        causes[record.cause or "unknown"] = causes.get(record.cause or "unknown", 0) + 1
    return ", ".join(f"{amount} {cause}" for cause, amount in sorted(causes.items(), key=lambda item: -item[1]))
