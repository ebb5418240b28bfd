"""Trials that train side by side: each in a thread of its own, all that fit together in the epochs of one group.

A trial joins its group between two epochs and leaves between two epochs; the others go on. What a trial reports, and
when it is stopped, is its own affair.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Protocol

from tuner.errors import LanesFailed
from tuner.trainable import Data, Trial

Epoch = Mapping[str, Any]
"""What a lane hands to trial.report."""


class Stack(Protocol):
    """Several models that train as one."""

    def add(self, config: Mapping[str, Any], trial: Trial) -> Any:
        """Take a trial in; returns its lane."""

    def train_epoch(self) -> Mapping[Any, Epoch]:
        """Train one epoch of every lane; returns what each reports."""

    def remove(self, lane: Any) -> None:
        """Let a lane go."""


class Together:
    """Trains trials side by side; those of one key in one group.

    Args:
        key: What trials must agree in to train in one group.
        make: Makes an empty group.
        linger_s: How long the others wait, before their next epoch, for a trial that comes in the place of one that
            has left: a trial takes milliseconds to follow another, and would else wait for a whole epoch.
    """

    def __init__(
        self,
        key: Callable[[Mapping[str, Any], Data], Hashable],
        make: Callable[[], Stack],
        linger_s: float = 0.05,
    ) -> None:
        self._key, self._make, self._linger_s = key, make, linger_s
        self._lock = threading.Lock()
        self._crews: dict[Hashable, _Crew] = {}

    def train(self, config: dict[str, Any], trial: Trial) -> None:
        """Train one trial to its end, from a thread of its own.

        Raises:
            StopTrial: From trial.report.
            Exception: What its own model raised, or what ended the epoch of all.
        """
        assert trial.data is not None, "lanes train on a data set"
        key = self._key(config, trial.data)
        with self._lock:
            crew = self._crews.get(key)
            if crew is None or crew.over:
                crew = self._crews[key] = _Crew(self._make, self._linger_s)
            member = crew.board(config, trial)
        try:
            for epoch in member.epochs():
                trial.report(**epoch)
        finally:
            member.leave()


class _Member:
    """One trial of a crew; its thread waits here for the epochs of all."""

    def __init__(self, crew: _Crew, config: dict[str, Any], trial: Trial) -> None:
        self.crew, self.config, self.trial = crew, config, trial
        self.lane: Any = None
        self.is_new = True  # whether no epoch has waited for it yet
        self.left = False
        self.answered = True  # whether it waits for an epoch, and not for what becomes of its report
        self.given: Epoch | BaseException | None = None

    def epochs(self) -> Iterator[Epoch]:
        """Yield what each epoch came to; the next one begins when it is asked for."""
        last = self._last()
        for epoch in range(self.trial.start_epoch + 1, last + 1):
            yield self._awaited()
            if epoch < last:  # after the last one it leaves: until then the others' next epoch waits for it
                with self.crew.changed:
                    self.answered = True
                    self.crew.changed.notify_all()

    def _awaited(self) -> Epoch:
        with self.crew.changed:
            self.crew.changed.wait_for(lambda: self.given is not None)
            given, self.given = self.given, None
        if isinstance(given, BaseException):
            raise given
        assert given is not None
        return given

    def _last(self) -> int:
        return min(self.config.get("epochs", self.trial.max_epochs), self.trial.max_epochs)

    def leave(self) -> None:
        with self.crew.changed:
            self.left = True
            self.crew.changed.notify_all()


class _Crew:
    """The trials of one group, and the thread that trains it."""

    def __init__(self, make: Callable[[], Stack], linger_s: float) -> None:
        self._make, self._linger_s = make, linger_s
        self._stack = make()
        self.changed = threading.Condition()
        self.over = False
        self._members: list[_Member] = []

    def board(self, config: dict[str, Any], trial: Trial) -> _Member:
        """Take a trial in, from the next epoch on."""
        member = _Member(self, config, trial)
        with self.changed:
            self._members.append(member)
            if len(self._members) == 1:
                threading.Thread(target=self._train, name="lanes", daemon=True).start()
            self.changed.notify_all()
        return member

    def _train(self) -> None:
        while not self.over:
            aboard: list[_Member] = []
            try:
                if aboard := self._between_epochs():
                    epochs = self._stack.train_epoch()
                    with self.changed:
                        for member in aboard:
                            self._give(member, epochs[member.lane])
            except BaseException as error:  # all must be told, for they would wait for ever; and begin anew elsewhere
                with self.changed:
                    alone = len(aboard) == len(self._members) == 1
                    told = error if alone else _of_all(error, len(self._members))
                    self._stack = self._make()
                    for member in self._members:
                        member.lane = None
                        self._give(member, told)

    def _between_epochs(self) -> list[_Member]:
        """Wait until every report is answered; returns who trains the next epoch, none where all have left."""
        with self.changed:
            self.changed.wait_for(lambda: all(one.answered or one.left for one in self._members))
            if any(one.left for one in self._members):
                self.changed.wait_for(lambda: any(one.is_new for one in self._members), self._linger_s)
            for member in [one for one in self._members if one.left]:
                self._members.remove(member)
                if member.lane is not None:
                    self._stack.remove(member.lane)
            for member in [one for one in self._members if one.is_new]:
                self._take_in(member)
            self.over = not self._members
            return [one for one in self._members if one.answered]

    def _take_in(self, member: _Member) -> None:
        member.is_new = False
        try:
            member.lane = self._stack.add(member.config, member.trial)
        except BaseException as error:  # its own model cannot be made: no affair of the others
            self._give(member, error)

    def _give(self, member: _Member, epoch: Epoch | BaseException) -> None:
        member.given, member.answered = epoch, False
        self.changed.notify_all()


def _of_all(error: BaseException, lanes: int) -> LanesFailed:
    """Return what is told to each trial of a group whose epoch failed: it may be the fault of another."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return LanesFailed(f"the epoch of {lanes} lanes failed: {reason[:300]}. Lower resources.lanes if it comes again.")
