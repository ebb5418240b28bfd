"""What earlier runs tell a sweep: their trials as observations, their best configs as points.

Read once, when a sweep begins, and committed to its journal: what follows from it needs the earlier runs no more.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner import constraints, pulling
from tuner.backends.asking import conclude
from tuner.constraints import PARAMS, Constraint
from tuner.errors import Problem, SweepError, TunerError
from tuner.history import FINISHED, RANKED, TrialRecord, objectives_of
from tuner.learnt import named, sentence
from tuner.provenance import FILE_NAME as PROVENANCE
from tuner.results import Results, load
from tuner.run_folder import local_imports
from tuner.space import Space
from tuner.spec import Sweep
from tuner.spec.code import FROZEN_FUNCTION, short_name
from tuner.spec.files import override
from tuner.spec.resolve import baseline
from tuner.spec.text import plain, toml_text
from tuner.storage import is_uri
from tuner.strategies import Observation

# Options of [data] from which it follows what was trained on, and what was measured on.
MATTERS = (
    *("name", "path", "target", "task", "group", "drop"),
    *("image_size", "limit", "val_fraction", "test_fraction"),
)
# Trials of these stages were measured on the validation samples.
MEASURED = ("baseline", "search", "refine")
BY = "an earlier run"

Config = dict[str, Any]


def learn(sweep: Sweep) -> list[dict[str, Any]]:
    """Read the runs of search.from.

    Args:
        sweep: The sweep that learns from them.

    Returns:
        One entry a run, as the journal's `warm_start` notes hold it: `run` (absolute), `told` and `failed` trials,
        `left_out` by reason, `observations`, and `epochs` and `seed` ([theirs, this sweep's]) where these differ.

    Raises:
        SweepError: A run is missing, cannot be read, or has no trial that fits the sweep.
    """
    problems: list[Problem] = []
    entries: dict[str, dict[str, Any]] = {}  # a run that is named twice is told once
    for place, run in enumerate(sweep.search.from_):
        key = f"search.from[{place}]"
        try:
            entry = _entry(load(run, pulling.small), run, sweep)
        except TunerError as error:
            problems.append(Problem(key, "must be a run that can be read", toml_text(named(run)), str(error)))
            continue
        if not entry["told"]:
            remedy = f"{sentence(entry)}. Leave it out of search.from."
            problems.append(Problem(key, "must have a trial that fits this sweep", toml_text(named(run)), remedy))
        entries[entry["run"]] = entry
    if problems:
        raise SweepError(sweep.name, problems)
    return list(entries.values())


def best_point(
    run: str, space: Space, trainable: Any, own: Mapping[str, Any], key: str, problems: list[Problem]
) -> Config | None:
    """Return the best config of a run as a point of a space; whether it lies in it is for the caller to check.

    Args:
        run: A path, a URI, a name in ./runs, or "latest".
        space: The space; empty where points need none.
        trainable: What trains in the new sweep.
        own: The new sweep's baseline.
        key: Where the run stands, such as "search.points[0]".
        problems: Receives what is wrong with the run, or with a parameter that only the run has varied.

    Returns:
        The point, or None where the run has none.
    """
    try:
        results = load(run, pulling.small)
        config = results.best().config
    except TunerError as error:
        problems.append(Problem(key, "must be a config, or a run with a best one", toml_text(named(run)), str(error)))
        return None
    tables = _tables(results)
    defaults = tables.get("defaults", {})
    varied = Space.parse(tables.get("space", {})).names() or list(config)
    same = short_name(tables["sweep"]["trainable"].strip("<>").rpartition(" ")[2]) == short_name(trainable or "")
    fit = _Fit(space, {**(baseline(trainable, defaults) if same else defaults), **config})
    if not space:
        return config
    for name in varied:
        if name in config and name not in fit.config and not _equal(config[name], own.get(name)):
            here = f"has it at {toml_text(own[name])}" if name in own else "does not know it"
            rule = (
                f"{named(run)} has varied {name}, and its best config has another value than this sweep, which {here}"
            )
            remedy = f"Add {name} under [space] or [defaults], or write the point as a table."
            problems.append(Problem(f"{key}.{name}", rule, toml_text(config[name]), remedy))
    return fit.config


@dataclass(frozen=True)
class _Rules:
    """What a trial of one run must meet.

    Args:
        sweep: The new sweep.
        theirs: The baseline of the run's sweep.
        ours: That of the new one.
    """

    sweep: Sweep
    theirs: Mapping[str, Any]
    ours: Mapping[str, Any]


class _Fit:
    """A config seen from another space: its own values, and those that what trained it had for the others.

    Args:
        space: The space.
        full: Every value that the config was trained with, as far as known.

    Attributes:
        config: What the space has a place for, with the choices that these values make.
        missing: Names of which no value is known.
        outside: Names whose value does not lie in its domain.
    """

    def __init__(self, space: Space, full: Mapping[str, Any]) -> None:
        self.config: Config = {}
        while True:  # a choice that is filled in opens a branch, whose names are filled in turn
            names = [leaf.name for leaf in space.active(self.config)]
            more = {name: full[name] for name in names if name in full and name not in self.config}
            if not more:
                break
            self.config |= more
        active = space.active(self.config)
        self.missing = sorted({leaf.name for leaf in active if leaf.name not in self.config})
        known = [leaf for leaf in active if leaf.name in self.config]
        self.outside = sorted({leaf.name for leaf in known if not leaf.domain.contains(self.config[leaf.name])})


def _entry(results: Results, run: str, sweep: Sweep) -> dict[str, Any]:
    tables = _tables(results)
    other = _other_trainable(tables, results.folder, sweep) or _other_data(tables, sweep)
    left_out: Counter[str] = Counter()
    groups: dict[tuple[str, int], list[TrialRecord]] = {}
    for record in results.records():
        if other:
            left_out[other] += 1
        elif record.stage not in MEASURED:
            left_out["of a study's folds and final trainings"] += 1
        else:
            groups.setdefault((record.stage, record.proposal), []).append(record)
    theirs = {} if other else baseline(sweep.trainable, tables.get("defaults", {}))
    rules = _Rules(sweep, theirs, sweep.baseline())
    observations: list[dict[str, Any]] = []
    told, failed = 0, 0
    for records in groups.values():
        seen = _observation(records, rules)
        if isinstance(seen, str):
            left_out[seen] += len(records)
            continue
        told += len(records)
        failed += sum(record.status == "failed" for record in records)
        observations.append(
            {"config": seen.config, "state": seen.state, "loss": seen.loss, "by": BY}
            | ({"values": [*seen.values]} if seen.values else {})
        )
    return {
        "run": run if is_uri(run) else str(results.folder.resolve()),
        "told": told,
        "failed": failed,
        "left_out": dict(left_out.most_common()),
        "observations": observations,
        **_otherwise(tables, sweep),
    }


def _tables(results: Results) -> dict[str, Any]:
    """Return the sweep of a run, with what its resumes have changed."""
    tables = copy.deepcopy(dict(results.sweep))
    for text in results.history.overrides:
        override(tables, text, [])
    return tables


def _otherwise(tables: Mapping[str, Any], sweep: Sweep) -> dict[str, Any]:
    """Return in what the run was measured otherwise, which its values are told in spite of."""
    theirs = tables["sweep"]
    pairs = {"epochs": [theirs["max_epochs"], sweep.max_epochs]}
    if sweep.data is not None:  # the seed splits it
        pairs["seed"] = [theirs.get("seed", 0), sweep.seed]
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _observation(records: Sequence[TrialRecord], rules: _Rules) -> Observation | str:
    """Return what the repeats of one config tell, or why they tell nothing."""
    sweep = rules.sweep
    if any(record.status not in FINISHED for record in records):
        return "unfinished"
    config = _mapped(records[0].config, rules)
    if isinstance(config, str):
        return config
    reported = any(sweep.metric in row.metrics for record in records for row in record.epochs.values())
    if not reported and all(record.status != "failed" for record in records):
        return f"without {sweep.metric}"
    asked = constraints.read(sweep.constraints)
    if any(_refused(record) for record in records) and not any(_breaks_params(record, asked) for record in records):
        return "refused by a constraint of its own sweep"
    records = [dataclasses.replace(record, constraints=asked) for record in records]  # ours, not its own sweep's
    ended = [record for record in records if record.status in RANKED]
    for one in asked:
        if any(record.at_best(one.name, sweep.metric, sweep.mode) is None for record in ended):
            return f"without {one.name}"
    for name, way in sweep.objectives.items():
        if ended and objectives_of(ended, sweep.metric, sweep.mode, {name: way}) is None:
            return f"without {name}"
    seen = conclude(Observation(0, config, "pending"), records, sweep.metric, sweep.mode, sweep.objectives)
    return "lost to the infrastructure" if seen.state == "lost" else seen


def _refused(record: TrialRecord) -> bool:
    """Return whether a config was not trained since it has too many, or too few, weights for its own sweep."""
    return record.status == "failed" and not record.epochs and _breaks_params(record, record.constraints)


def _breaks_params(record: TrialRecord, asked: Sequence[Constraint]) -> bool:
    known = record.params is not None
    return known and any(one.name == PARAMS and not one.holds(record.params) for one in asked)


def _mapped(config: Config, rules: _Rules) -> Config | str:
    """Return a run's config in the new space, or why it has no place there."""
    sweep, space = rules.sweep, rules.sweep.space
    full = {**rules.theirs, **config}
    fixed = [name for name in sweep.defaults if name not in space.names()]
    if not space:  # a list of points: any name may stand in a config
        other = [name for name in fixed if not _equal(full.get(name), sweep.defaults[name])]
        return _reason("with another value of", other) or {n: v for n, v in config.items() if n not in fixed}
    fit = _Fit(space, full)
    names = dict.fromkeys([*config, *fixed])
    other = [n for n in names if n not in fit.config and not _equal(full.get(n), rules.ours.get(n))]
    return (
        _reason("outside of the space", fit.outside)
        or _reason("without a value of", fit.missing)
        or _reason("with another value of", other)
        or space.conform(fit.config)
    )


def _reason(why: str, names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names))
    if not names:
        return ""
    return f"{why} ({shown})" if why.endswith("space") else f"{why} {shown}"


def _equal(first: Any, second: Any) -> bool:
    return bool(plain(first) == plain(second))


def _other_data(tables: Mapping[str, Any], sweep: Sweep) -> str:
    """Return why what was measured on another set of data tells nothing; "" where it is the same."""
    theirs, ours = tables.get("data") or {}, sweep.data.model_dump(exclude_none=True) if sweep.data else {}
    differ = [name for name in MATTERS if not _equal(theirs.get(name), ours.get(name))]
    return f"of other data ({', '.join(differ)})" if differ else ""


def _other_trainable(tables: Mapping[str, Any], folder: Path, sweep: Sweep) -> str:
    """Return why what another trainable made tells nothing; "" where it is the same, its code included."""
    theirs, ours = str(tables["sweep"]["trainable"]), sweep.trainable
    frozen = FROZEN_FUNCTION.fullmatch(theirs)
    other = f"of another trainable ({frozen[1] if frozen else theirs})"
    if not isinstance(ours, str):
        return "" if frozen and frozen[1] == short_name(ours) else other
    if ".py:" not in ours:
        return "" if theirs == ours else other
    file, _, function = ours.rpartition(":")
    if ".py:" not in theirs or theirs.rpartition(":")[2] != function:
        return other
    return "" if _frozen_code(folder) == _digests(local_imports(Path(file).resolve())) else f"of other code ({theirs})"


def _frozen_code(folder: Path) -> list[str]:
    """Return the digests of a run's frozen code, as it was when the run began."""
    try:
        entry = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return sorted(str(digest) for digest in entry["code"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _digests(sorted((folder / "code").rglob("*.py")))


def _digests(files: Sequence[Path]) -> list[str]:
    try:
        return sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    except OSError:
        return []
