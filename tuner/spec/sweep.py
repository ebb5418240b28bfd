"""Sweep: what a sweep file says, resolved and frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from tuner.errors import Problem, nearest
from tuner.space import Space
from tuner.spec.code import absolute_path, absolute_run, absolute_trainable, short_name
from tuner.spec.resolve import baseline, resolve
from tuner.spec.tables import (
    TABLES,
    CheckpointSpec,
    DataSpec,
    FailureSpec,
    HeadSpec,
    ResourcesSpec,
    SearchSpec,
    StoppingSpec,
    StudySpec,
    Table,
    as_table,
)
from tuner.spec.text import document

_HEAD = tuple(HeadSpec.model_fields)


class Sweep(Table):
    """A sweep, frozen, with everything that was left out filled in.

    In Python: `Sweep(trainable=fn, space={"lr": tuner.LogUniform(1e-4, 1e-1)}, metric="loss", mode="min",
    search={"trials": 8})`. Keywords are the keys of [sweep] and the other tables of a sweep file; paths are
    relative to the working directory.

    Args:
        trainable: "cnn", "resnet", "mlp", "path/to/file.py:function", "package.module:function"
            or a function.
        name: The run folder's name; left out, the trainable's.
        metric: What trials are compared by; left out, val_accuracy or val_rmse (built-ins only).
        mode: "max" or "min"; left out, the better way of a known metric.
        seed: At least 0.
        max_epochs: The most epochs a trial may train, at least 1.
        constraints: What a config must meet at its best epoch to be the best, such as "params < 200_000": a metric,
            one of < <= > >=, and a number. `params` is the number of the model's weights, known before training.
        objectives: What else is to be optimised, as metric -> "min" or "max"; `params` and `epoch_s` are always known
            of the built-in trainables.
        data, space, defaults, search, stopping, resources, checkpoint, failure, study: The tables.

    Raises:
        SweepError: With every mistake found.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    trainable: str | Callable[..., Any]
    metric: str
    mode: Literal["max", "min"]
    seed: int
    max_epochs: int
    constraints: tuple[str, ...] = ()
    objectives: dict[str, Literal["max", "min"]] = Field(default_factory=dict)
    data: DataSpec | None
    space: Space
    defaults: dict[str, Any]
    search: SearchSpec
    stopping: StoppingSpec
    resources: ResourcesSpec
    checkpoint: CheckpointSpec
    failure: FailureSpec
    study: StudySpec

    def __init__(self, **keywords: Any) -> None:
        tables, problems = _from_keywords(keywords)
        tables = absolute(tables, Path.cwd())
        super().__init__(**resolve(tables, stem="", prefix="", source="Sweep(...)", problems=problems))

    def to_toml(self) -> str:
        """Return the sweep as a file that load_sweep reads back as an equal sweep."""
        head = {name: value for name in _HEAD if (value := getattr(self, name)) not in ((), {})}
        if not isinstance(self.trainable, str):
            head["trainable"] = f"<python function {short_name(self.trainable)}>"
        tables = {
            "sweep": head,
            "data": as_table(self.data),
            "space": self.space.to_table(),
            "defaults": self.defaults,
            "search": {name: value for name, value in as_table(self.search).items() if value != ()},
            "stopping": as_table(self.stopping),
            "resources": as_table(self.resources),
            "checkpoint": as_table(self.checkpoint),
            "failure": as_table(self.failure),
            "study": as_table(self.study),
        }
        return document(tables)

    def hash(self) -> str:
        """Return the SHA-256 of the sweep's TOML form, in hex."""
        return hashlib.sha256(self.to_toml().encode()).hexdigest()

    def baseline(self) -> dict[str, Any]:
        """Return [defaults] laid over the trainable's own defaults."""
        return baseline(self.trainable, self.defaults)


def absolute(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the tables with their paths, so far relative to a folder, made absolute."""
    result = dict(tables)
    head, data, search = tables.get("sweep"), tables.get("data"), as_table(tables.get("search"))
    if isinstance(head, Mapping) and isinstance(head.get("trainable"), str):
        result["sweep"] = {**head, "trainable": absolute_trainable(head["trainable"], folder)}
    if isinstance(data, DataSpec):
        data = data.model_dump(exclude_none=True)
    if isinstance(data, Mapping):
        paths = {key: str(data[key]) for key in ("root", "path") if isinstance(data.get(key), str | Path)}
        result["data"] = {**data, **{key: absolute_path(path, folder) for key, path in paths.items()}}
    if isinstance(search, Mapping):
        lists = {key: search[key] for key in ("from", "points") if isinstance(search.get(key), list | tuple)}
        runs = {key: [absolute_run(run, folder) for run in given] for key, given in lists.items()}
        if runs:
            result["search"] = {**search, **runs}
    return result


def _from_keywords(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the keywords of Sweep(...) as the tables of a file, and what is wrong with their names."""
    names = (*_HEAD, *TABLES[1:])
    problems = [
        Problem(name, "there is no such keyword", remedy=nearest(name, names)) for name in keywords if name not in names
    ]
    tables = {name: keywords[name] for name in TABLES[1:] if keywords.get(name) is not None}
    return {"sweep": {name: value for name, value in keywords.items() if name in _HEAD}, **tables}, problems
