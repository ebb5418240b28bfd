"""The tables of a sweep file. A field's description is its rule: errors say `must be <description>`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from tuner.errors import Problem, nearest
from tuner.spec.text import plain, toml_text

Text = Annotated[str, Field(pattern=r"^[^\x00]+$", description="a text that is not empty")]
Count = Annotated[int, Field(ge=1, description="a whole number of at least 1")]
Natural = Annotated[int, Field(ge=0, description="a whole number of at least 0")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number of seconds above 0")]
Fraction = Annotated[float, Field(gt=0, lt=1, description="a number between 0 and 1 (neither included)")]
Runs = Annotated[
    tuple[Text, ...], Field(strict=False, description='a list of runs, such as ["runs/a", "s3://bucket/runs/b"]')
]
Texts = Annotated[tuple[str, ...], Field(strict=False, description='a list of texts, such as ["a", "b"]')]


def _shareable(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError("only one GPU can be shared")
    return gpus


Gpus = Annotated[
    float,
    Field(ge=0, le=4096, description="a fraction of a GPU (0 to 1), or a whole number of GPUs"),
    AfterValidator(_shareable),
]


Amount = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number above 0")]


class Table(BaseModel):
    """A table: frozen, without unknown keys, and without guessing ("8" is no number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class HeadSpec(Table):
    """[sweep], before what is left out has been filled in."""

    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$",
        description="a folder's name: up to 100 letters, digits, '_', '-' and '.'",
    )
    trainable: Any = None
    metric: Text | None = None
    mode: Literal["max", "min"] | None = None
    seed: Natural = 0
    max_epochs: Count = 10
    constraints: Texts = ()
    objectives: Annotated[
        dict[str, Literal["max", "min"]],
        Field(description='a table of metrics, each "min" or "max", such as { params = "min" }'),
    ] = Field(default_factory=dict)


class DataSpec(Table):
    """[data]: the data set and its options; None where an option was not given and has no default.

    Args:
        name: The set's name.
        root: Folder of the torchvision sets' files, absolute.
        path: Folder of `images`, or file of `table`, absolute.
        image_size: Side of the images in pixels.
        limit: Samples to use, drawn stratified before splitting.
        val_fraction: Share of the training samples that validates, between 0 and 1.
        test_fraction: Share of all samples that is sealed away, for sets without a test split of their own.
        folds: Folds of a study's cross-validation.
        download: Whether missing torchvision files may be downloaded.
        on_corrupt: What a damaged image does: "fail" or "skip".
        target: The table's target column.
        task: The table's task.
        group: The table's column whose rows of one value stay in one split.
        drop: The table's columns that are not read.
    """

    name: Text
    root: Text | None = None
    path: Text | None = None
    image_size: Count | None = None
    limit: Annotated[int, Field(ge=10, description="a whole number of at least 10")] | None = None
    val_fraction: Fraction | None = None
    test_fraction: Fraction | None = None
    folds: Annotated[int, Field(ge=2, description="a whole number of at least 2")] | None = None
    download: Annotated[bool, Field(description="true or false")] | None = None
    on_corrupt: Literal["fail", "skip"] | None = None
    target: Text | None = None
    task: Literal["classification", "regression"] | None = None
    group: Text | None = None
    drop: Texts | None = None


class SearchSpec(Table):
    """[search]: which strategy proposes how many configs.

    Args:
        strategy: The strategy's name.
        trials: The most configs it proposes, at least 1.
        repeats: Seeds a config, at least 1.
        initial_random: Random configs before a strategy's model starts; None for strategies without such a start.
        points: Configs that come first; in a file, also runs, each for its best config.
        from_: Runs whose trials the strategy learns from, `from` in a file: paths, URIs, names in ./runs, or "latest".
        deterministic: Whether a proposal knows the results of the proposals up to `lookahead` before it and of no later
            one, so that the sweep does not depend on how many trials run at a time, nor on which ends first.
        lookahead: With `deterministic`: how many proposals may be under way at a time, at least 1.
        options: The strategy's own options, filled in, under its name: the table [search.NAME].
    """

    strategy: Text = "auto"
    trials: Count = 20
    repeats: Count = 1
    initial_random: Count | None = None
    deterministic: Annotated[bool, Field(description="true or false")] = False
    lookahead: Count = 4
    points: Annotated[
        tuple[dict[str, Any], ...],
        Field(
            strict=False,
            description='a list of configs, such as [{ learning_rate = 0.01 }], or of runs, such as ["runs/a"]',
        ),
    ] = ()
    from_: Runs = Field(default=(), alias="from")
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)


class StoppingSpec(Table):
    """[stopping]: rules in the order given, and each rule's own table of options as written."""

    rules: Texts = ()
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)


class ResourcesSpec(Table):
    """[resources]: what a trial may use.

    Args:
        cpus_per_trial: CPU cores a trial, fractions allowed.
        gpus_per_trial: GPUs a trial, a fraction or a whole number; None: one where there is one.
        accelerator_type: On a cluster of several kinds: the GPU's, as Ray names it, such as "A100"; None: any.
        custom: What else a trial asks of its node, as `ray start --resources` names it: name -> amount.
        max_concurrent: Trials side by side; None: what fits.
        time_budget_s: Seconds of one session of the driver, in a study of one of its stages, after which no new trial
            starts; a resume begins them anew. None: no limit.
        epoch_budget: Epochs of all trials together, over the whole run folder, resumes included; None: no limit.
        gpu_hours_budget: GPUs of a trial x the hours it trained, all trials together, as epoch_budget; None: no limit.
        at_budget: What becomes of trials that run when a budget is spent: "finish" them, or "stop" each at its next
            report.
        lanes: Trials that train side by side in one process, as lanes of one model, on what one trial has of the node;
            "auto": as many as a run measures to be fastest on this machine before it starts, and then freezes.
        precision: What models compute in: "fp32", "bf16", or "auto": bf16 for a built-in trainable on images, where the
            processor has it and it was measured to end as in fp32. Resolved when a run is planned, and frozen with it.
    """

    cpus_per_trial: Annotated[float, Field(gt=0, le=4096, description="a number above 0")] = 1.0
    gpus_per_trial: Gpus | None = None
    accelerator_type: (
        Annotated[
            str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description='a kind as Ray names it, such as "A100"')
        ]
        | None
    ) = None
    custom: dict[str, Amount] | None = None
    max_concurrent: Count | None = None
    time_budget_s: Seconds | None = None
    epoch_budget: Count | None = None
    gpu_hours_budget: Amount | None = None
    at_budget: Literal["finish", "stop"] = "finish"
    lanes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description='a whole number of at least 1, or "auto"'
    )
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @property
    def lanes_each(self) -> int:
        """Trials that share what cpus_per_trial and gpus_per_trial say; 1 where "auto" is not resolved."""
        return 1 if self.lanes == "auto" else self.lanes

    def _part(self, amount: float) -> float:
        # Ray counts in ten-thousandths, and rounds: all lanes of a device must fit there.
        return amount if self.lanes_each == 1 else math.floor(amount / self.lanes_each * 10_000) / 10_000

    def request(self) -> dict[str, float]:
        """Return what one trial asks of a node, under the names that Ray has for it; lanes share what a trial has."""
        asked = {"CPU": self._part(self.cpus_per_trial), "GPU": self._part(self.gpus_per_trial or 0.0)}
        if self.accelerator_type is not None:
            asked[f"accelerator_type:{self.accelerator_type}"] = 0.001  # Ray's own way to ask for a kind
        return {**asked, **(self.custom or {})}


class CheckpointSpec(Table):
    """[checkpoint]: a checkpoint every so many epochs, and how many of a trial's are kept."""

    every_epochs: Count = 1
    keep: Count = 2


class FailureSpec(Table):
    """[failure]: what happens when a trial fails.

    Args:
        max_retries: Attempts after the first one when the infrastructure failed.
        epoch_timeout_s: Seconds an epoch may take; None: no limit.
        non_finite: What a metric that is not finite does: "fail" the trial, or count as the "worst".
    """

    max_retries: Natural = 3
    epoch_timeout_s: Seconds | None = None
    non_finite: Literal["fail", "worst"] = "fail"


STAGES = ("baseline", "search", "refine", "cross_validate", "final")
Stages = Annotated[
    tuple[Literal["baseline", "search", "refine", "cross_validate", "final"], ...],
    Field(strict=False, description='a list of stages, of "baseline", "search", "refine", "cross_validate", "final"'),
]


class StudySpec(Table):
    """[study]: what `tuner study` does around the search.

    Args:
        stages: Which stages it has; they come in the order of the workflow, however they are listed here.
        repeats: Seeds of the baseline, at least 1; the noise is known from 2 on.
        refine_rounds: How often the space is narrowed.
        refine_trials: Configs a round; None: half of search.trials, at least 4.
        top: Configs that are cross-validated, the best of search and refine, beside the baseline.
        cv_seeds: Seeds that each fold is trained with.
        cv_trials: The most trials of the cross-validation; None: no limit but (top + 1) x folds x cv_seeds.
        level: Level of the tests that drop a config from the cross-validation, over all of them together.
    """

    stages: Stages = STAGES  # type: ignore[assignment]
    repeats: Count = 3
    refine_rounds: Count = 1
    refine_trials: Count | None = None
    top: Count = 4
    cv_seeds: Count = 1
    cv_trials: Count | None = None
    level: Fraction = 0.05


MODELS: dict[str, type[Table]] = {
    "sweep": HeadSpec,
    "data": DataSpec,
    "search": SearchSpec,
    "resources": ResourcesSpec,
    "checkpoint": CheckpointSpec,
    "failure": FailureSpec,
    "study": StudySpec,
}
"""The tables with keys of their own; [space], [defaults] and [stopping] hold names that vary."""

TABLES = ("sweep", "data", "space", "defaults", "search", "stopping", "resources", "checkpoint", "failure", "study")

TableT = TypeVar("TableT", bound=Table)


def read_table(model: type[TableT], raw: Any, key: str, problems: list[Problem]) -> TableT | None:
    """Return the table as a model, with its problems appended; keys that break a rule are left out of it.

    So what depends on the other keys can still be checked. None where a required key is missing or wrong.

    Args:
        model: The table's model.
        raw: What stood in the file.
        key: The table's name, "" for the keyword arguments of Sweep(...).
        problems: Receives every mistake.
    """
    if not isinstance(raw, Mapping):
        problems.append(Problem(key, "must be a table", toml_text(raw), f"Write it as [{key}]."))
        return None
    given = {str(name): plain(value) for name, value in raw.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        wrong = dict.fromkeys(str(item["loc"][0]) for item in error.errors())
    problems.extend(_problem(model, name, given, key) for name in wrong)
    try:
        return model.model_validate({name: value for name, value in given.items() if name not in wrong})
    except ValidationError:
        return None


def _problem(model: type[Table], name: str, given: Mapping[str, Any], key: str) -> Problem:
    """Return what is wrong with one key of a table."""
    where = f"{key}.{name}" if key else name
    field = next((field for given, field in _fields(model) if given == name), None)
    if field is None:
        return Problem(where, "there is no such key", remedy=_elsewhere(model, name))
    rule = _rule(field)
    if name not in given:
        return Problem(where, "is required", remedy=f"Give {rule}.")
    options = _literals(field.annotation)
    value = given[name]
    remedy = nearest(value, options) if options and isinstance(value, str) else ""
    return Problem(where, f"must be {rule}", toml_text(value), remedy if "Did you" in remedy else "")


def _elsewhere(model: type[Table], name: str) -> str:
    """Return the remedy for an unknown key: the nearest of its table, or the table that has it."""
    remedy, home = nearest(name, keys_of(model)), home_of(name)
    return f"Write it under [{home}]." if home and not remedy.startswith("Did you") else remedy


def home_of(name: str) -> str | None:
    """Return the table that has a key of this name."""
    return next((table for table, model in MODELS.items() if name in keys_of(model)), None)


def keys_of(model: type[Table]) -> list[str]:
    """Return the keys that a table may have; `options` is none, for they stand in tables of their own."""
    return [name for name, _ in _fields(model) if name != "options"]


def _fields(model: type[Table]) -> list[tuple[str, FieldInfo]]:
    """Return each key as it is written, which Python may keep for itself, as `from`, and its field."""
    return [(field.alias or name, field) for name, field in model.model_fields.items()]


def as_table(raw: Any) -> Any:
    """Return what Python may give in place of a table as a table; nothing is an empty one."""
    if isinstance(raw, StoppingSpec):
        return {"rules": raw.rules, **raw.options}
    if isinstance(raw, Table):
        table = raw.model_dump(exclude_none=True, by_alias=True)
        options = table.pop("options", {})
        return {**table, **options}
    return {} if raw is None else raw


def _rule(field: FieldInfo) -> str:
    """Return a field's rule in words."""
    if field.description:
        return field.description
    options = _literals(field.annotation)
    if options:
        return " or ".join(f'"{option}"' for option in options)
    inner = (meta for part in get_args(field.annotation) for meta in getattr(part, "__metadata__", ()))
    return next((meta.description for meta in inner if getattr(meta, "description", None)), "valid")


def _literals(annotation: Any) -> list[str]:
    """Return the texts that a Literal inside an annotation allows."""
    found = [value for value in get_args(annotation) if isinstance(value, str)]
    return found or [text for part in get_args(annotation) for text in _literals(part)]
