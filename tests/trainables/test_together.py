"""Trials that share the epochs of one group: who is in, who has left, and that nobody waits for ever."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from trainables.lanes.together import Together
from tuner.errors import LanesFailed
from tuner.trainable import StopTrial


class Counting:
    """A stack that counts epochs in place of training them."""

    def __init__(self, log):
        self.lanes, self.log, self.next = {}, log, 0

    def add(self, config, trial):
        if config.get("unfit"):
            raise ValueError("its model cannot be made")
        self.next += 1
        self.lanes[self.next] = [config["name"], trial.start_epoch]
        return self.next

    def remove(self, lane):
        if self.lanes.pop(lane)[0] == "sticks":
            raise RuntimeError("it cannot be removed")

    def train_epoch(self):
        time.sleep(0.01)
        self.log.append(sorted(name for name, _ in self.lanes.values()))
        if any(name == "breaks" for name, _ in self.lanes.values()):
            raise RuntimeError("out of everything")
        for lane in self.lanes.values():
            lane[1] += 1
        return {lane: {"epoch": epoch, "name": name} for lane, (name, epoch) in self.lanes.items()}


class Trial:
    data = SimpleNamespace()

    def __init__(self, max_epochs=3, start_epoch=0, stop_at=None, hold=None):
        self.max_epochs, self.start_epoch, self.stop_at, self.hold = max_epochs, start_epoch, stop_at, hold
        self.epochs = []

    def report(self, *, epoch, name):
        self.epochs.append(epoch)
        if self.hold is not None:
            self.hold.wait(10)
        if epoch == self.stop_at:
            raise StopTrial("enough")


class Party:
    def __init__(self, linger_s=0.05, key=lambda config, data: config.get("shape")):
        self.log, self.stacks, self.ends = [], [], {}
        self.together = Together(key, self.make, linger_s)

    def make(self):
        self.stacks.append(Counting(self.log))
        return self.stacks[-1]

    def start(self, name, trial, **config):
        def run():
            try:
                self.together.train({"name": name, **config}, trial)
                self.ends[name] = "done"
            except BaseException as error:
                self.ends[name] = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


def wait(*threads):
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "a trial waits for ever"


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_each_trial_reports_all_of_its_epochs():
    party, trials = Party(), [Trial(max_epochs=count) for count in (1, 3, 5)]
    wait(*(party.start(str(at), trial) for at, trial in enumerate(trials)))
    assert [trial.epochs for trial in trials] == [[1], [1, 2, 3], [1, 2, 3, 4, 5]]
    assert party.ends == {"0": "done", "1": "done", "2": "done"}


def test_a_trial_begins_after_the_epochs_that_it_has():
    party, trial = Party(), Trial(max_epochs=4, start_epoch=2)
    wait(party.start("a", trial))
    assert trial.epochs == [3, 4]


def test_a_trial_that_has_all_its_epochs_ends_at_once():
    party = Party()
    wait(party.start("a", Trial(max_epochs=2, start_epoch=2)))
    assert party.ends == {"a": "done"}


def test_a_late_trial_joins_while_the_others_go_on():
    party, hold = Party(), threading.Event()
    early = Trial(max_epochs=4, hold=hold)
    first = party.start("early", early)
    until(lambda: early.epochs == [1])
    late = Trial(max_epochs=2)
    second = party.start("late", late)
    until(lambda: len(party.together._crews[None]._members) == 2)
    hold.set()
    wait(first, second)
    assert party.log[:3] == [["early"], ["early", "late"], ["early", "late"]]
    assert (early.epochs, late.epochs) == ([1, 2, 3, 4], [1, 2])


def test_who_is_stopped_leaves_and_the_others_go_on():
    party, stopped, stays = Party(), Trial(max_epochs=6, stop_at=2), Trial(max_epochs=4)
    wait(party.start("stopped", stopped), party.start("stays", stays))
    assert stopped.epochs == [1, 2]
    assert stays.epochs == [1, 2, 3, 4]
    assert isinstance(party.ends["stopped"], StopTrial)
    assert party.log[-1] == ["stays"]


def test_a_model_that_cannot_be_made_is_its_own_trials_failure():
    party, well = Party(), Trial(max_epochs=3)
    wait(party.start("well", well), party.start("unfit", Trial(), unfit=True))
    assert isinstance(party.ends["unfit"], ValueError)
    assert well.epochs == [1, 2, 3]


def test_an_epoch_of_all_that_fails_is_told_to_each_and_is_nobodys_fault():
    party, hold = Party(), threading.Event()
    first = Trial(max_epochs=4, hold=hold)
    one = party.start("first", first)
    until(lambda: first.epochs == [1])
    other = party.start("breaks", Trial())
    until(lambda: len(party.together._crews[None]._members) == 2)
    hold.set()
    wait(one, other)
    assert all(isinstance(party.ends[name], LanesFailed) for name in ("first", "breaks"))
    assert "the epoch of 2 lanes failed: RuntimeError: out of everything" in str(party.ends["first"])


def test_alone_in_its_group_a_trial_fails_by_its_own_error():
    party = Party()
    wait(party.start("breaks", Trial()))
    assert isinstance(party.ends["breaks"], RuntimeError)


def test_trials_of_different_shapes_have_groups_of_their_own():
    party = Party()
    wait(party.start("a", Trial(), shape=1), party.start("b", Trial(), shape=2))
    assert len(party.stacks) == 2
    assert all(len(names) == 1 for names in party.log)


def test_a_group_that_was_left_by_all_is_taken_up_by_the_next():
    party = Party()
    wait(party.start("a", Trial()))
    trial = Trial()
    wait(party.start("b", trial))
    assert trial.epochs == [1, 2, 3]


def test_many_trials_one_after_another_lose_no_epoch():
    party = Party(linger_s=0.005)
    trials = [Trial(max_epochs=1 + at % 3, stop_at=2 if at % 2 else None) for at in range(40)]

    def lane(share):
        for at in share:
            wait(party.start(str(at), trials[at]))

    threads = [threading.Thread(target=lane, args=(range(at, 40, 4),)) for at in range(4)]
    for thread in threads:
        thread.start()
    wait(*threads)
    for trial in trials:
        assert trial.epochs == list(range(1, min(trial.max_epochs, trial.stop_at or 9) + 1))


def test_the_others_wait_for_a_successor_before_their_next_epoch():
    party, long = Party(linger_s=2.0), Trial(max_epochs=10**6)
    first = party.start("long", long)
    wait(party.start("short", Trial(max_epochs=1)))
    follower = party.start("follower", Trial(max_epochs=1))
    wait(follower)
    long.stop_at = len(long.epochs) + 2
    party.start("ends the waiting", Trial(max_epochs=1))
    wait(first)
    after = party.log.index(["long", "short"]) + 1
    assert party.log[after] == ["follower", "long"]


def test_no_epoch_is_trained_that_nobody_waits_for():
    # A trial may be slower to come back than its first epoch takes.
    party = Party()
    trials = [Trial(max_epochs=count) for count in (1, 2, 3)]
    for turn, trial in enumerate(trials):
        wait(party.start(str(turn), trial))
    assert [len(names) for names in party.log] == [1] * (1 + 2 + 3)


def test_an_error_between_two_epochs_leaves_nobody_waiting():
    party, hold = Party(), threading.Event()
    stays = Trial(max_epochs=5, hold=hold)
    first = party.start("stays", stays)
    until(lambda: stays.epochs == [1])
    other = party.start("sticks", Trial(max_epochs=1))
    until(lambda: len(party.together._crews[None]._members) == 2)
    hold.set()
    wait(first, other)
    assert isinstance(party.ends["stays"], LanesFailed)
    assert party.ends["sticks"] == "done"
    trial = Trial(max_epochs=2)  # those that come after it find a group that works
    wait(party.start("next", trial))
    assert trial.epochs == [1, 2]
