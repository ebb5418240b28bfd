"""The staged workflow: baseline, search, refine, cross-validate, final test; stages of one run folder and journal.

Each stage is a pure function of the sweep and the history, so a study that was killed goes on like any sweep. What a
stage decides before it begins (a narrower space, which configs are cross-validated) is a note in the journal, and is
read from there afterwards.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import final
from tuner.backends.driver import Driver, seed_of
from tuner.backends.stage import WAIT, Stage, Suggestion, Wait, known_before
from tuner.drive import Backend, Drive, Step, Watch
from tuner.final import BASELINE
from tuner.history import FINISHED, RANKED, History, TrialRecord, ranking
from tuner.openings import openings
from tuner.results import DEFAULT_STORAGE, Results, from_history
from tuner.run import run
from tuner.run_folder import write_text
from tuner.space import Space
from tuner.spec import Sweep
from tuner.splits import Splits
from tuner.stopping import make_rules
from tuner.strategies import Observation, make_strategy

if TYPE_CHECKING:
    from tuner.analysis import comparison


def study(
    sweep: Sweep,
    *,
    storage: str | Path = DEFAULT_STORAGE,
    name: str | None = None,
    backend: Backend = "ray",
    address: str | None = None,
    insecure: bool = False,
    watch: Watch | None = None,
) -> Results:
    """Run a whole study in a new run folder: the stages of sweep.study, in the order of the workflow.

    Args:
        sweep: The sweep; its [study] table says which stages, and how large.
        storage: As in tuner.run.
        name: As in tuner.run.
        backend: As in tuner.run.
        address: As in tuner.run.
        insecure: As in tuner.run.
        watch: As in tuner.run.

    Raises:
        TunerError: As tuner.run.
    """
    return run(
        sweep,
        storage=storage,
        name=name,
        backend=backend,
        address=address,
        insecure=insecure,
        watch=watch,
        steps=steps,
    )


def steps(drive: Drive, history: History) -> Iterator[Step]:
    """Yield the steps of a study, each once those before it are over."""
    for name, stage in _STAGES.items():
        if name in drive.plan.sweep.study.stages and not _is_past(history, name):
            yield from stage(drive, history)
    if not openings(history.notes).over:
        drive.note(history, {"study": "done"})


def _is_past(history: History, stage: str) -> bool:
    """Return whether a later stage has begun: it rests on this one, which must not go on even if time ended it."""
    later = [*_STAGES][[*_STAGES].index(stage) + 1 :]
    begun = any(record.stage in later for record in history.trials.values())
    return begun or any(_noted(history, name) for name in later)


def _step(drive: Drive, stage: Stage, trials: int, data: Splits | None = None) -> Step:
    """Return a step that lists its trials itself, at most so many; no rule ends them early."""
    sweep = drive.plan.sweep
    return Step(stage, sweep, data or drive.data, make_strategy(sweep), trials)


def _noted(history: History, key: str) -> list[Any]:
    """Return what the journal's notes say under a key, in order."""
    return [note[key] for note in history.notes if key in note]


# -- baseline and search -------------------------------------------------------------------------------------------


def baseline_config(sweep: Sweep) -> dict[str, Any]:
    """Return the baseline's config: [defaults] over the trainable's own, as far as this sweep varies or names them."""
    named = {*sweep.space.names(), *sweep.defaults}
    return {name: value for name, value in sweep.baseline().items() if name in named}


def _baseline(drive: Drive, history: History) -> Iterator[Step]:
    sweep = drive.plan.sweep
    config = baseline_config(sweep)
    if not config:
        return  # a user's function without DEFAULTS, in a sweep without [defaults]

    def listed(history: History) -> Suggestion | None:
        repeat = len(_of(history, "baseline"))
        if repeat >= sweep.study.repeats:
            return None
        return Suggestion(config, "baseline", "the defaults", BASELINE, repeat, seed_of(sweep, repeat))

    yield _step(drive, Stage("baseline", after=-1, listed=listed), sweep.study.repeats)


def _search(drive: Drive, history: History) -> Iterator[Step]:
    sweep = drive.plan.sweep
    yield Step(
        Stage(prior=known_before(history)),
        sweep,
        drive.data,
        make_strategy(sweep),
        drive.plan.trials,
        make_rules(sweep),
    )


def _of(history: History, stage: str) -> list[TrialRecord]:
    return [record for record in history.trials.values() if record.stage == stage]


# -- refine --------------------------------------------------------------------------------------------------------


def _refine(drive: Drive, history: History) -> Iterator[Step]:
    sweep = drive.plan.sweep
    for number in range(1, sweep.study.refine_rounds + 1):
        if not ranking(history.trials.values(), sweep.metric, sweep.mode):
            return  # there is no region to narrow the space to
        rounds = {note["round"]: note for note in _noted(history, "refine")}
        note = rounds[number] if number in rounds else _narrow(drive, history, sweep, number)
        sweep = _refined(drive.plan.sweep, note)
        if number + 1 in rounds:
            continue  # as _is_past
        file = drive.folder / f"refine-{number}.toml"
        if not file.exists():
            write_text(file, refined_file(sweep, note, number))
        stage = Stage("refine", note["trials"], note["after"], _inside(sweep, drive, history, note["after"]))
        trials = note["trials"] * sweep.search.repeats
        yield Step(stage, sweep, drive.data, make_strategy(sweep), trials, make_rules(sweep))


def _narrow(drive: Drive, history: History, sweep: Sweep, number: int) -> dict[str, Any]:
    """Decide on the next space and note it."""
    from tuner.analysis.refine import refine

    results = from_history(drive.folder, history, running=True)
    space, changes = refine(
        sweep.space,
        results.trials,
        sweep.metric,
        sweep.mode,
        noise=noise(history, sweep),
        trainable=_name(sweep),
        max_epochs=sweep.max_epochs,
    )
    trials = sweep.study.refine_trials or max(4, drive.plan.sweep.search.trials // 2)
    note = {
        "round": number,
        "space": space.to_table(),
        "trials": trials,
        "after": max(record.proposal for record in history.trials.values()),
        "changes": [dataclasses.asdict(change) for change in changes],
    }
    drive.note(history, {"refine": note})
    return note


def _name(sweep: Sweep) -> str | None:
    return sweep.trainable if isinstance(sweep.trainable, str) else None


def _refined(sweep: Sweep, note: Mapping[str, Any]) -> Sweep:
    search = sweep.search.model_copy(update={"points": (), "trials": note["trials"]})
    return sweep.model_copy(update={"space": Space.parse(note["space"]), "search": search})


def refined_file(sweep: Sweep, note: Mapping[str, Any], number: int) -> str:
    """Return a refined sweep as a file that can be edited and run by itself; what changed, and why, is its head."""
    lines = [f"# Round {number} of refining {sweep.name}: what changed, and why."]
    lines += [f"# {entry['name']}: {entry['before']} -> {entry['after']}: {entry['why']}" for entry in note["changes"]]
    return "\n".join([*lines, "", sweep.to_toml()])


def _inside(sweep: Sweep, drive: Drive, history: History, after: int) -> tuple[Observation, ...]:
    """Return what other runs, and earlier trials of search and refine, tell of a narrower space: what lies in it."""
    known = [*known_before(history)]
    for name in ("search", "refine"):
        driver = Driver(drive.plan.sweep, drive.folder, history, make_strategy(sweep), (), stage=Stage(name))
        known += [entry for entry in driver.observations() if entry.index <= after]
    names, fixed = set(sweep.space.names()), sweep.space
    kept = []
    for entry in sorted(known, key=lambda entry: entry.index):
        config = {name: value for name, value in entry.config.items() if name in names}
        if entry.state in ("done", "failed") and fixed.contains(config):
            kept.append(dataclasses.replace(entry, config=config, earlier=True))
    return tuple(kept)


def noise(history: History, sweep: Sweep) -> float | None:
    """Return the standard deviation of the baseline over its seeds, or None where there are fewer than two."""
    values = [record.best_value(sweep.metric, sweep.mode) for record in _of(history, "baseline")]
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) > 1 else None


# -- cross-validation ----------------------------------------------------------------------------------------------


def _cross_validate(drive: Drive, history: History) -> Iterator[Step]:
    sweep = drive.plan.sweep
    ranked = ranking(history.trials.values(), sweep.metric, sweep.mode)
    if sweep.data is None or not ranked:
        return  # a function with data of its own has no folds that this project could make
    noted = _noted(history, "cross_validate")
    if not noted:
        # The best candidate first: so the earlier of equals is the better of the search.
        configs = {str(entry.trial.proposal): entry.trial.config for entry in ranked[: sweep.study.top]}
        base = baseline_config(sweep)
        if base and base not in configs.values() and _may_win(history, sweep):
            configs[str(BASELINE)] = base
        noted = [{"configs": configs}]
        drive.note(history, {"cross_validate": noted[0]})
    candidates: dict[int, dict[str, Any]] = {int(number): config for number, config in noted[0]["configs"].items()}
    options, folds = sweep.data.model_dump(), _folds(sweep)
    load = importlib.import_module("trainables.data").load
    data = Splits({fold: functools.partial(load, options, sweep.seed, fold, folds) for fold in range(folds)})

    def listed(history: History) -> Suggestion | Wait | None:
        return _next_block(sweep, candidates, folds, history)

    most = len(candidates) * folds * sweep.study.cv_seeds
    yield _step(drive, Stage("cross_validate", after=-1, listed=listed), min(most, sweep.study.cv_trials or most), data)


def _may_win(history: History, sweep: Sweep) -> bool:
    """Return whether the baseline meets the constraints by its own trials; without those it is not known to."""
    own = [record for record in _of(history, "baseline") if record.status in RANKED]
    return not history.constraints or (bool(own) and not any(record.broken(sweep.metric, sweep.mode) for record in own))


def _next_block(
    sweep: Sweep, configs: Mapping[int, dict[str, Any]], folds: int, history: History
) -> Suggestion | Wait | None:
    """Return the next (config, seed, fold) that the race needs, until it is decided or the budget ends."""
    begun = {(record.proposal, record.repeat - 1, record.fold) for record in _of(history, "cross_validate")}
    waiting = [(int(name), *block) for name, block in race_of(sweep, configs, folds, history).waiting]
    for index, repeat, fold in waiting:
        if (index, repeat, fold) in begun:
            continue
        if sweep.study.cv_trials is not None and len(begun) >= sweep.study.cv_trials:
            return None
        why = f"fold {fold + 1} of {folds}, seed {repeat + 1} of {sweep.study.cv_seeds}"
        return Suggestion(configs[index], "cross_validate", why, index, repeat, seed_of(sweep, repeat), fold)
    return WAIT if waiting else None


def race_of(sweep: Sweep, configs: Collection[int], folds: int, history: History) -> comparison.Race:
    """Return where the race between the cross-validated configs stands; a pure function of the history."""
    from tuner.analysis import comparison

    blocks: dict[str, dict[tuple[int, int], float | None]] = {str(index): {} for index in configs}
    for record in _of(history, "cross_validate"):
        if record.status in FINISHED and record.fold is not None:
            value = record.best_value(sweep.metric, sweep.mode) if record.status in RANKED else None
            blocks[str(record.proposal)][record.repeat - 1, record.fold] = value
    ratio = 1 / (folds - 1)
    level, seed = sweep.study.level, sweep.seed
    return comparison.race(
        blocks,
        comparison.schedule(sweep.study.cv_seeds, folds),
        sweep.mode,
        ratio=ratio,
        level=level,
        seed=seed,
    )


def _folds(sweep: Sweep) -> int:
    from tuner.analysis.comparison import FOLDS

    return (sweep.data and sweep.data.folds) or FOLDS


# -- the final test ------------------------------------------------------------------------------------------------


def _final(drive: Drive, history: History) -> Iterator[Step]:
    sweep = drive.plan.sweep
    ranked = ranking(history.trials.values(), sweep.metric, sweep.mode)
    done = openings(history.notes).over and not drive.again
    if sweep.data is None or not ranked or done:
        return
    winner = chosen(history, sweep)
    configs = {BASELINE: baseline_config(sweep), winner: _config_of(history, sweep, winner)}
    if configs[BASELINE] == configs[winner]:
        # The search has found nothing better than the defaults.
        winner, configs = BASELINE, {BASELINE: configs[BASELINE]}
    load = importlib.import_module("trainables.data").load
    whole = Splits({None: functools.partial(load, sweep.data.model_dump(), sweep.seed, whole=True)})

    def listed(history: History) -> Suggestion | None:
        begun = {record.proposal for record in _of(history, "final")}
        for index, config in configs.items():
            if index not in begun and config:
                until = last_epoch(history, sweep, index)
                why = f"trained on training and validation samples for {until} epochs"
                return Suggestion(config, "final", why, index, 0, seed_of(sweep, 0), until=until)
        return None

    yield _step(drive, Stage("final", after=-1, listed=listed), len([*filter(None, configs.values())]), whole)
    final.score_winner(drive, history, whole, winner)


def chosen(history: History, sweep: Sweep) -> int:
    """Return the winner's number: the best mean of those that the cross-validation leaves, of equals the search's best.

    Without a cross-validation it is the best of search and refine.
    """
    noted = _noted(history, "cross_validate")
    best = ranking(history.trials.values(), sweep.metric, sweep.mode)[0].trial.proposal
    if not noted or sweep.data is None:
        return best
    race = race_of(sweep, [int(number) for number in noted[0]["configs"]], _folds(sweep), history)
    means = {name: mean for name, mean in race.last.means.items() if name in race.alive} if race.last else {}
    if not means:
        return best
    sign = 1 if sweep.mode == "max" else -1
    return int(max(means, key=lambda name: sign * means[name]))


def last_epoch(history: History, sweep: Sweep, index: int) -> int:
    """Return the epoch at which the final training of a config ends: the median best epoch over its folds.

    Without folds it is that of its trials in search and refine, or of the baseline.
    """
    for stages in (("cross_validate",), ("search", "refine"), ("baseline",)):
        records = [record for stage in stages for record in _of(history, stage) if record.proposal == index]
        epochs = [record.best_epoch(sweep.metric, sweep.mode) for record in records]
        known = [epoch for epoch in epochs if epoch is not None]
        if known:
            return round(statistics.median(known))
    return sweep.max_epochs


def _config_of(history: History, sweep: Sweep, index: int) -> dict[str, Any]:
    if index == BASELINE:
        return baseline_config(sweep)
    return next(
        record.config
        for record in history.trials.values()
        if record.proposal == index and record.stage in ("search", "refine")
    )


_STAGES: dict[str, Callable[[Drive, History], Iterator[Step]]] = {
    "baseline": _baseline,
    "search": _search,
    "refine": _refine,
    "cross_validate": _cross_validate,
    "final": _final,
}
