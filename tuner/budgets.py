"""Budgets of a sweep: what is spent of each, and what is left. Pure; read from the history."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner import words

if TYPE_CHECKING:
    from tuner.history import History

_KEYS = ("epoch_budget", "gpu_hours_budget", "time_budget_s", "gpus_per_trial")


@dataclass(frozen=True)
class Limits:
    """The budgets that a sweep has; None: no limit.

    Args:
        epochs: Of all trials together, over the whole run folder.
        gpu_hours: GPUs of a trial x its hours, over the whole run folder.
        seconds: Of one session of the driver; in a study of one stage of it.
        gpus: GPUs of a trial.
    """

    epochs: int | None = None
    gpu_hours: float | None = None
    seconds: float | None = None
    gpus: float = 0.0


@dataclass(frozen=True)
class Budget:
    """One budget: its key, its limit and what is spent, both in `unit`."""

    key: str
    unit: str
    limit: float
    spent: float

    @property
    def left(self) -> float:
        """What is left, never below 0."""
        return max(0.0, self.limit - self.spent)

    @property
    def is_spent(self) -> bool:
        return self.spent >= self.limit

    def text(self) -> str:
        """Return it for a person: `120 of 200 epochs spent, 80 left`."""
        return f"{_number(self.spent)} of {_number(self.limit)} {self.unit} spent, {_number(self.left)} left"

    def short(self) -> str:
        """Return what is left of it: `80 of 200 epochs left`."""
        return f"{_number(self.left)} of {_number(self.limit)} {self.unit} left"

    def reason(self) -> str:
        """Return why a trial is stopped by it."""
        return f"{self.key} = {_number(self.limit)} is spent: {_number(self.spent)} {self.unit}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"key": self.key, "limit": self.limit, "spent": self.spent, "left": self.left}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else words.value(float(value))


def limits(resources: Mapping[str, Any], overrides: Iterable[str] = ()) -> Limits:
    """Return the budgets of a frozen sweep.

    Args:
        resources: Its [resources] as a plain table.
        overrides: What resumes have changed since, as "key=value".
    """
    table = {key: resources.get(key) for key in _KEYS} | _changed(overrides)
    gpus = table["gpus_per_trial"] or 0.0
    return Limits(table["epoch_budget"], table["gpu_hours_budget"], table["time_budget_s"], gpus)


def _changed(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the keys that overrides, which were checked when they were given, have changed."""
    changed: dict[str, Any] = {}
    for text in overrides:
        name, _, value = text.partition("=")
        table, _, key = name.strip().partition(".")
        if table == "resources" and key in _KEYS:
            changed[key] = tomllib.loads(f"value = {value.strip()}")["value"]
        elif name.strip() == "resources":  # the table as a whole
            given = tomllib.loads(f"value = {value.strip()}")["value"]
            changed = {other: given.get(other) for other in _KEYS}
    return changed


def lasting(limits: Limits, history: History, *, epochs: int = 0, seconds: float = 0.0) -> list[Budget]:
    """Return the budgets that count over the whole run folder, resumes included.

    Args:
        limits: The sweep's.
        history: The trials. Every epoch that was committed counts, also one that was trained again.
        epochs: Epochs to come, besides.
        seconds: Seconds of trials to come, besides.
    """
    found = []
    if limits.epochs is not None:
        found.append(Budget("resources.epoch_budget", "epochs", limits.epochs, history.epochs_spent + epochs))
    if limits.gpu_hours is not None:
        trained = sum(record.duration_s for record in history.trials.values()) + seconds
        hours = limits.gpus * trained / 3600
        found.append(Budget("resources.gpu_hours_budget", "GPU-hours", limits.gpu_hours, hours))
    return found


def of_session(limits: Limits, seconds: float) -> list[Budget]:
    """Return the budget that counts in each session of the driver anew, so many seconds after its start."""
    if limits.seconds is None:
        return []
    return [Budget("resources.time_budget_s", "s", limits.seconds, seconds)]


def standing(limits: Limits, history: History, now: float | None = None) -> list[Budget]:
    """Return how each budget stands: of those that count in each session, the newest one's.

    Args:
        limits: The sweep's.
        history: The trials.
        now: The present, in seconds since 1970; None where nothing runs any more.
    """
    end = history.last_at if now is None else now
    began = history.session_at
    if began is None or end is None:
        return lasting(limits, history)
    return [*lasting(limits, history), *of_session(limits, round(max(0.0, end - began), 1))]
