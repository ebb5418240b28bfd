"""What a strategy is told of the trials, and the proposals that it is asked for."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from tuner.backends.stage import Stage
from tuner.errors import UsageError
from tuner.history import FINISHED, RANKED, History, TrialRecord, objectives_of
from tuner.objectives import scalarised
from tuner.space import derive_seed
from tuner.spec import Sweep
from tuner.strategies import Observation, Proposal, Strategy


class Asking:
    """Turns the trials of a stage into observations, and observations into the next proposal.

    Args:
        strategy: Proposes configs.
        sweep: The frozen sweep.
        history: What the journal holds, kept up to date by the driver.
        stage: Whose trials these are.

    Attributes:
        fixed: Defaults that the space says nothing of; they are part of every config, and no strategy sees them. Where
            there is no space, points hold them.
    """

    def __init__(self, strategy: Strategy, sweep: Sweep, history: History, stage: Stage) -> None:
        self.strategy = strategy
        self._sweep, self._history, self._stage = sweep, history, stage
        varied = sweep.space.names()
        self.fixed = {name: value for name, value in sweep.defaults.items() if name not in varied} if varied else {}
        self._seen: dict[int, Observation] = {}
        # By config, and which of them are not over: what is over is not looked at again, however many there are.
        self._groups: dict[int, list[TrialRecord]] = {}
        self._pending: set[int] = set()
        self._order: list[int] = []
        self._listed: list[Observation] = []
        self._records: list[TrialRecord] = []
        self._grouped = 0

    @property
    def most(self) -> int:
        """How many configs the stage has."""
        return self._sweep.search.trials if self._stage.trials is None else self._stage.trials

    def records(self) -> list[TrialRecord]:
        """Return the trials of the stage, in the order of their numbers."""
        self._group()
        return list(self._records)

    def newest(self) -> list[TrialRecord]:
        """Return the trials of the newest config; empty before the first."""
        self._group()
        return self._groups[self._records[-1].proposal] if self._records else []

    def _group(self) -> None:
        """Take in the trials that are new."""
        for record in itertools.islice(self._history.trials.values(), self._grouped, None):
            self._grouped += 1
            if self._stage.holds(record):
                self._records.append(record)
                if record.proposal not in self._groups:
                    if self._order and record.proposal < self._order[-1]:
                        self._listed.clear()  # places have moved
                    bisect.insort(self._order, record.proposal)
                self._groups.setdefault(record.proposal, []).append(record)
                self._pending.add(record.proposal)

    def observations(self) -> list[Observation]:
        """Return one observation a config of the stage, in the order of the proposals: the mean over its repeats."""
        self._group()
        for index in sorted(self._pending):
            seen = self._observe(index, self._groups[index])
            if seen.state != "pending":
                self._pending.discard(index)
            place = bisect.bisect_left(self._order, index)
            if place < len(self._listed):
                self._listed[place] = seen
        self._listed += map(self._seen.__getitem__, self._order[len(self._listed) :])
        return list(self._listed)

    def propose(self, seen: Sequence[Observation]) -> Proposal | None:
        """Return the strategy's next proposal after these observations; None: it has none left.

        Raises:
            UsageError: The config is outside the space.
        """
        index = self._stage.after + len(seen) + 1
        known = (
            list(seen)
            if not self._sweep.search.deterministic
            else [
                one if self.may_know(index, one.index) else dataclasses.replace(one, state="pending", loss=None)
                for one in seen
            ]
        )
        proposal = self.strategy.ask(self.as_one([*self._stage.prior, *known], index))
        mistakes = self._sweep.space.explain(proposal.config) if proposal and self._sweep.space else []
        if mistakes:
            raise UsageError(
                "\n".join(
                    problem.sentence(f"a config that strategy {self.strategy.name} proposes") for problem in mistakes
                )
                + "\nMend its ask(), which must stay inside the space, or choose another search.strategy."
            )
        return proposal

    def may_know(self, index: int, earlier: int) -> bool:
        """Return whether proposal number `index` may depend on the results of an earlier one."""
        search = self._sweep.search
        return not search.deterministic or earlier <= index - search.lookahead

    def as_one(self, known: list[Observation], index: int) -> list[Observation]:
        """Return what is told for one proposal: of several objectives one number, with weights of its own."""
        if not self._history.objectives:
            return known
        # What another run told is a value of the metric alone, which compares with none of these.
        known = [
            one if one.state != "done" or one.values else dataclasses.replace(one, state="lost", loss=None)
            for one in known
        ]
        done = [place for place, one in enumerate(known) if one.state == "done"]
        seed = derive_seed(self._sweep.seed, "objectives", index)
        for place, loss in zip(done, scalarised([known[place].values for place in done], seed), strict=True):
            known[place] = dataclasses.replace(known[place], loss=loss)
        return known

    def _observe(self, index: int, records: list[TrialRecord]) -> Observation:
        seen = self._seen.get(index)
        if seen is None:
            config = {name: value for name, value in records[0].config.items() if name not in self.fixed}
            seen = self._seen[index] = Observation(index, config, "pending", by=records[0].by)
        if seen.state == "pending" and self._over(records):
            # What is over never changes: worked out once, and strategies know the config by its identity.
            metric, mode = self._sweep.metric, self._sweep.mode
            seen = self._seen[index] = conclude(seen, records, metric, mode, self._history.objectives)
        return seen

    def _over(self, records: list[TrialRecord]) -> bool:
        return len(records) >= self._sweep.search.repeats and all(record.status in FINISHED for record in records)


def conclude(
    pending: Observation,
    records: Sequence[TrialRecord],
    metric: str,
    mode: str,
    objectives: Mapping[str, str] | None = None,
) -> Observation:
    """Return what is known of a config once all its repeats are over: the mean of their best values, as a loss.

    Args:
        pending: The config.
        records: Its repeats, at least one.
        metric: What is compared.
        mode: "max" or "min".
        objectives: The others, where there are any; a config of which one is not known counts as failed.
    """
    sign = 1.0 if mode == "min" else -1.0
    failed = [record for record in records if record.status == "failed"]
    infeasible = any(record.broken(metric, mode) for record in records if record.status in RANKED)
    if infeasible or any(_teaches(record) for record in failed):
        return dataclasses.replace(pending, state="failed")
    values = [record.best_value(metric, mode) for record in records]
    known = [sign * value for value in values if value is not None]
    if len(failed) == len(records) or not known:
        return dataclasses.replace(pending, state="lost" if failed else "failed")
    loss = sum(known) / len(known)
    if not objectives:
        return dataclasses.replace(pending, state="done", loss=loss)
    own = [record for record in records if record.status in RANKED]
    others = objectives_of(own, metric, mode, objectives)
    if others is None:
        return dataclasses.replace(pending, state="failed")
    signed = (value if objectives[name] == "min" else -value for name, value in others.items())
    return dataclasses.replace(pending, state="done", loss=loss, values=(loss, *signed))


def _teaches(record: TrialRecord) -> bool:
    return record.cause is not None and not record.cause.startswith("infrastructure.")
