from __future__ import annotations

import contextlib
import itertools
import math
import threading
from contextlib import contextmanager
from typing import ClassVar

import pytest
from conformance_backends import make_driver, make_sweep

import tuner
from tuner import checkpoints
from tuner.backends.asking import Asking
from tuner.backends.driver import Driver, StaleAttempt
from tuner.backends.stage import Stage, Suggestion
from tuner.backends.worker import Outcome, Report
from tuner.errors import UsageError
from tuner.history import History, TrialRecord, fold, ranking
from tuner.stopping import Rule, make_rules
from tuner.strategies import Observation, Proposal, make_strategy

DONE = Outcome("completed", elapsed_s=1.0)
LOST = Outcome("failed", "infrastructure.worker_lost", "its worker process died.")


def report(epoch, score=0.5, checkpoint=None, **metrics):
    return Report(epoch, {"score": score, **metrics}, checkpoint, 0.1 * epoch, "host:1")


class Recorder:
    """A strategy that proposes 1, 2, 3, ... and remembers what it was shown."""

    name, total, note = "recorder", None, ""

    def __init__(self) -> None:
        self.shown = []

    def ask(self, history):
        self.shown.append([(seen.config["x"], seen.state, seen.loss) for seen in history])
        return Proposal({"x": len(history) + 1}, "recorder", "counting")


@pytest.fixture
def drive(tmp_path):
    """Make a driver; a second one made with the same folder stands for a resume."""

    def make(parts=None, **more):
        search = {"strategy": "random", "trials": 3} | more.pop("search", {})
        sweep = make_sweep(print, {"x": tuner.Int(1, 100)}, search=search, **more)
        return make_driver(tmp_path / "run", sweep, **({"strategy": Recorder()} | (parts or {})))

    return make


def again(driver, **changes) -> Driver:
    """The driver of a resume: only the frozen sweep and the journal are left."""
    sweep = driver.sweep.model_copy(update=changes)
    history = fold(driver.journal.events())
    parts = {"strategy": make_strategy(sweep), "rules": make_rules(sweep), "journal": driver.journal}
    return Driver(sweep, driver.run, history, **parts)


def complete(driver, job, *scores):
    for epoch, score in enumerate(scores or (0.5,), start=1):
        driver.report(job.trial, job.attempt, report(epoch, score))
    driver.end(job.trial, job.attempt, DONE)


def kinds(driver):
    return [event.kind for event in driver.journal.events() if event.kind != "sweep"]


def keep_state(driver, job, epoch):
    place = checkpoints.Place(job.trial, epoch, job.attempt)
    return checkpoints.commit(driver.run, place, {"epoch": epoch}, {"score": 0.5})


# -- what runs next ----------------------------------------------------------------------------------------------------


def test_everything_is_committed_before_the_next_thing_depends_on_it(drive):
    driver = drive()
    job = driver.next()
    assert kinds(driver) == ["suggestion", "attempt"]
    driver.report(job.trial, job.attempt, report(1))
    assert kinds(driver)[2:] == ["epoch"]
    driver.end(job.trial, job.attempt, DONE)
    assert kinds(driver)[3:] == ["end"]
    assert fold(driver.journal.events()).trials == driver.history.trials


def test_as_many_trials_as_asked_for_and_then_none(drive):
    driver = drive()
    jobs = [driver.next(), driver.next(), driver.next()]
    assert [job.trial for job in jobs] == ["t0001", "t0002", "t0003"] and [job.number for job in jobs] == [1, 2, 3]
    assert driver.next() is None and driver.running == 3 and not driver.finished
    for job in jobs:
        complete(driver, job)
    assert driver.next() is None and driver.running == 0 and driver.finished and driver.nothing_left()


def test_a_strategy_that_has_nothing_left_ends_the_sweep(drive):
    driver = drive({"strategy": make_strategy(make_sweep(print, {"x": tuner.Choice([1, 2])}))}, search={"trials": 9})
    while job := driver.next():
        complete(driver, job)
    assert len(driver.history.trials) == 2 and driver.finished and driver.nothing_left()


def test_a_config_outside_the_space_is_an_error_that_names_the_strategy(drive):
    class Strays(Recorder):
        name = "strays"

        def ask(self, history):
            return Proposal({"x": 101, "y": 1}, "strays", "out of it")

    driver = drive({"strategy": Strays()})
    with pytest.raises(UsageError, match=r"a config that strategy strays proposes: x: .*\n.*y: unknown name"):
        driver.next()
    assert kinds(driver) == []


@pytest.mark.parametrize("side_by_side, newest_first", [(1, False), (2, False), (2, True)])
def test_deterministic_shows_a_strategy_the_same_whichever_trial_ends_first(drive, side_by_side, newest_first):
    recorder, jobs = Recorder(), []
    driver = drive({"strategy": recorder}, search={"trials": 6, "deterministic": True, "lookahead": 2})
    while True:
        while len(jobs) < side_by_side and (job := driver.next()):
            jobs.append(job)
        if not jobs:
            break
        job = jobs.pop(-1 if newest_first else 0)
        complete(driver, job, 1 / job.number)
    # A proposal knows those up to two before it, and of no later one, though it may be over.
    assert recorder.shown == [
        [(x, "done", -1 / x) for x in range(1, n - 1)] + [(x, "pending", None) for x in range(max(1, n - 1), n)]
        for n in range(1, 7)
    ]


def test_deterministic_stops_a_trial_by_what_its_proposal_could_know(drive):
    class Alone(Rule):
        name: ClassVar[str] = "alone"

        def decide(self, curves, trial, epoch, max_epochs):
            return f"beside {sorted(set(curves) - {trial})}"

    driver = drive({"rules": [Alone()]}, search={"trials": 4, "deterministic": True, "lookahead": 2})
    for _ in range(4):
        job = driver.next()
        driver.report(job.trial, job.attempt, report(1))
    reasons = [event.body["reason"] for event in driver.journal.events() if event.kind == "stop"]
    assert reasons == ["beside []", "beside []", "beside ['t0001']", "beside ['t0001', 't0002']"]


def test_a_config_is_repeated_before_the_next_with_the_same_seeds(drive):
    driver = drive(search={"repeats": 2})
    jobs = [driver.next() for _ in range(4)]
    assert [job.config["x"] for job in jobs] == [1, 1, 2, 2]
    assert jobs[0].seed == jobs[2].seed != jobs[1].seed == jobs[3].seed
    assert all(0 <= job.seed < 2**31 for job in jobs)
    assert [record.repeat for record in driver.history.trials.values()] == [1, 2, 1, 2]


def test_defaults_that_the_space_does_not_vary_lie_under_every_config(drive):
    driver = drive(defaults={"x": 50, "width": 8})
    assert driver.next().config == {"width": 8, "x": 1}
    driver.next()
    # A strategy sees its own part alone.
    assert driver.observations()[0].config == {"x": 1}


def test_a_job_says_what_was_asked_for(drive):
    job = drive({"device": "cuda"}, checkpoint={"every_epochs": 2}, resources={"cpus_per_trial": 2.5}).next()
    assert (job.device, job.every_epochs, job.threads, job.metric, job.max_epochs) == ("cuda", 2, 2, "score", 3)
    assert (job.attempt, job.start_epoch, job.checkpoint) == (1, 0, None)
    assert drive_threads(0.5) == 1


def drive_threads(cpus):
    sweep = make_sweep(print, {"x": 1}, resources={"cpus_per_trial": cpus})
    return max(1, int(sweep.resources.cpus_per_trial))


def test_a_config_that_cannot_be_built_fails_without_a_worker(drive):
    driver = drive({"reject": lambda config: "too small" if config["x"] == 1 else None})
    assert driver.next().trial == "t0002"
    first = driver.history.trials["t0001"]
    assert (first.status, first.cause, first.error) == ("failed", "config.shape", "too small")


def test_no_trial_starts_after_the_time_budget(drive):
    driver = drive(resources={"time_budget_s": 5})
    job = driver.next()
    driver._began -= 5
    assert driver.next() is None and not driver.finished
    complete(driver, job)
    assert driver.finished and not driver.nothing_left()


def test_a_lost_attempt_is_tried_again_though_the_time_is_up(drive):
    driver = drive(resources={"time_budget_s": 5})
    job = driver.next()
    driver._began -= 5
    driver.end(job.trial, job.attempt, LOST)
    assert not driver.finished and driver.next().attempt == 2


def test_no_trial_starts_once_the_epochs_are_spent_and_what_runs_may_end(drive):
    driver = drive(resources={"epoch_budget": 3}, max_epochs=3)
    first, second = driver.next(), driver.next()
    complete(driver, first, 0.1, 0.2)
    driver.report(second.trial, 1, report(1))
    assert driver.next() is None and not driver.finished
    # In flight: it passes the budget by what it has left.
    assert not driver.report(second.trial, 1, report(2))
    driver.end(second.trial, 1, DONE)
    assert driver.finished and driver.nothing_left()
    assert [record.status for record in driver.history.trials.values()] == ["completed", "completed"]


def test_what_runs_when_the_epochs_are_spent_is_stopped_where_that_is_asked(drive):
    driver = drive(resources={"epoch_budget": 3, "at_budget": "stop"}, max_epochs=5)
    first, second = driver.next(), driver.next()
    assert not driver.report(first.trial, 1, report(1)) and not driver.report(second.trial, 1, report(1))
    assert driver.report(first.trial, 1, report(2, 0.9, keep_state(driver, first, 2)))
    assert driver.report(second.trial, 1, report(2))
    stops = [event.body["reason"] for event in driver.journal.events() if event.kind == "stop"]
    assert stops == [f"resources.epoch_budget = 3 is spent: {spent} epochs" for spent in (3, 4)]
    assert [record.status for record in driver.history.trials.values()] == ["stopped", "stopped"]
    # Saved with the report that stopped it, its best so far.
    assert driver.history.trials[first.trial].last_checkpoint().epoch == 2
    assert driver.finished and driver.nothing_left() and driver.next() is None


def test_an_unfinished_trial_waits_for_a_larger_budget_where_a_spent_one_stops(drive):
    driver = drive(resources={"epoch_budget": 2, "at_budget": "stop"}, max_epochs=3)
    first, second = driver.next(), driver.next()
    driver.report(first.trial, 1, report(1))
    driver.end(second.trial, 1, LOST)
    assert driver.report(first.trial, 1, report(2))
    assert driver.next() is None and driver.finished and driver.nothing_left()
    raised = driver.sweep.resources.model_copy(update={"epoch_budget": 4})
    resumed = again(driver, resources=raised)
    assert not resumed.nothing_left() and resumed.next().trial == second.trial


def test_a_resume_counts_the_epochs_of_all_sessions_and_goes_on_with_a_larger_budget(drive):
    driver = drive(resources={"epoch_budget": 2}, max_epochs=2)
    complete(driver, driver.next(), 0.1, 0.2)
    resumed = again(driver)
    assert resumed.nothing_left() and resumed.next() is None
    larger = again(driver, resources=driver.sweep.resources.model_copy(update={"epoch_budget": 3}))
    assert not larger.nothing_left() and larger.next().trial == "t0002"


def test_an_epoch_that_is_trained_again_is_spent_again(drive):
    driver = drive(resources={"epoch_budget": 2}, max_epochs=2)
    job = driver.next()
    driver.report(job.trial, 1, report(1))
    driver.end(job.trial, 1, LOST)  # without a checkpoint
    job = driver.next()
    driver.report(job.trial, 2, report(1))
    assert driver.history.epochs_spent == 2 and driver.next() is None


@pytest.mark.parametrize("at_budget", ["finish", "stop"])
def test_gpu_hours_are_the_gpus_of_a_trial_times_its_time(drive, at_budget):
    resources = {"gpus_per_trial": 2.0, "gpu_hours_budget": 1.0, "at_budget": at_budget}
    driver = drive(resources=resources, max_epochs=9)
    job = driver.next()
    assert not driver.report(job.trial, 1, Report(1, {"score": 0.5}, None, 1799.0, "host:1"))
    assert driver.next() is not None  # 1,799 s of 2 GPUs are just below an hour
    assert driver.report(job.trial, 1, Report(2, {"score": 0.5}, None, 1800.0, "host:1")) == (at_budget == "stop")
    assert driver.next() is None


def test_the_time_budget_stops_what_runs_where_that_is_asked(drive):
    driver = drive(resources={"time_budget_s": 5, "at_budget": "stop"}, max_epochs=9)
    job = driver.next()
    assert not driver.report(job.trial, 1, report(1))
    driver._began -= 5
    assert driver.report(job.trial, 1, report(2)) and driver.finished
    # Seconds are those of one session, so there is more for a resume.
    assert not driver.nothing_left()


@pytest.mark.parametrize(("stage", "begins"), [("cross_validate", False), ("final", True)])
def test_a_study_whose_budget_is_spent_has_its_final_training_all_the_same(drive, stage, begins):
    wanted = Suggestion({"x": 1}, stage, "", 1, 0, 1)
    driver = drive(
        {"stage": Stage(stage, after=-1, listed=lambda history: wanted)},
        resources={"epoch_budget": 1, "at_budget": "stop"},
        max_epochs=5,
    )
    job = driver.next()
    # Only what rules compare is stopped: a fold that ends early would be compared with whole ones.
    assert not driver.report(job.trial, 1, report(1)) and not driver.report(job.trial, 1, report(2))
    assert (driver.next() is not None) == begins


# -- constraints -------------------------------------------------------------------------------------------------------


def test_a_config_that_breaks_a_constraint_already_is_never_trained(drive):
    parts = {"measure": lambda config: 100 * config["x"]}
    driver = drive(parts, constraints=["params <= 100", "params > 0"])
    job = driver.next()
    assert driver.history.trials[job.trial].params == 100
    complete(driver, job)
    assert driver.next() is None and driver.finished
    second = driver.history.trials["t0002"]
    assert (second.status, second.cause, second.epochs) == ("failed", "config.shape", {})
    assert second.error == "params must be <= 100 (sweep.constraints), but got (200)."
    assert [seen.state for seen in driver.observations()] == ["done", "failed", "failed"]


def test_models_are_counted_only_where_a_constraint_asks(drive):
    asked = []
    driver = drive({"measure": asked.append}, constraints=["score > 0"])
    driver.next()
    assert asked == []


def test_a_config_that_breaks_a_constraint_at_its_best_epoch_is_told_as_failed(drive):
    driver = drive(constraints=["loss < 1"])
    first, second = driver.next(), driver.next()
    # What counts is the best epoch of the sweep's metric: the first trial's loss is too high there, and only there.
    driver.report(first.trial, 1, report(1, 0.1, loss=0.5))
    driver.report(first.trial, 1, report(2, 0.9, loss=1.5))
    driver.report(second.trial, 1, report(1, 0.3, loss=0.5))
    for job in (first, second):
        driver.end(job.trial, 1, DONE)
    assert [(seen.state, seen.loss) for seen in driver.observations()] == [("failed", None), ("done", -0.3)]
    assert [entry.trial.trial for entry in ranking(driver.history.trials.values(), "score", "max")] == ["t0002"]


@pytest.mark.parametrize("head", [{"constraints": ["latenzy < 5"]}, {"objectives": {"latenzy": "min"}}])
def test_a_trial_that_never_reports_what_is_asked_for_fails_at_its_end(drive, head):
    driver = drive(**head)
    first, second, third = (driver.next() for _ in range(3))
    # One epoch of several is enough, though the best one decides, and None says that it is not defined yet.
    driver.report(first.trial, 1, report(1, 0.4, latenzy=None))
    driver.report(first.trial, 1, report(2, 0.5))
    driver.report(second.trial, 1, report(1, 0.5, latency=4.0))
    driver.report(third.trial, 1, report(1, 0.5, latency=4.0))
    driver.end(first.trial, 1, DONE)
    driver.end(second.trial, 1, DONE)
    driver.end(third.trial, 1, Outcome("stopped", None, None, 1.0))
    told = [(record.status, record.cause) for record in driver.history.trials.values()]
    assert told == [("completed", None), ("failed", "config.metric"), ("stopped", None)]
    error = driver.history.trials[second.trial].error
    assert 'must give "latenzy"' in error and "but got (score, latency)." in error and 'Write "latency"' in error


def test_a_baseline_is_trained_whatever_the_constraints(drive):
    suggestion = Suggestion({"x": 9}, "baseline", "the defaults", 0, 0, 1)
    stage = Stage("baseline", after=-1, listed=lambda history: None if history.trials else suggestion)
    driver = drive({"measure": lambda config: 900, "stage": stage}, constraints=["params < 5"])
    assert driver.next().trial == "t0001"


# -- objectives --------------------------------------------------------------------------------------------------------


def test_a_strategy_is_told_one_number_of_several_objectives_with_new_weights_each_time(drive):
    recorder = Recorder()
    driver = drive({"strategy": recorder}, objectives={"size": "max"}, search={"trials": 30})
    for place in range(24):
        job = driver.next()
        driver.report(job.trial, 1, report(1, place / 10, size=-float(place)))
        driver.end(job.trial, 1, DONE)
    # What is known stays what it was; what is told differs by the weights, from best to worst in both ways.
    assert driver.observations()[2].values == (-0.2, 2.0) and driver.observations()[2].loss == -0.2
    favourites = {min(shown, key=lambda one: one[2])[0] for shown in recorder.shown[4:]}
    assert 1 in favourites and max(favourites) > 1
    # The same for whoever asks again, such as a resume.
    asked = recorder.shown[-1]
    again = driver._asking.as_one(driver.observations()[:-1], 24)
    assert [(one.config["x"], one.state, one.loss) for one in again] == asked


def test_what_other_runs_told_of_the_metric_alone_is_not_compared_with_several_objectives(drive):
    recorder, prior = Recorder(), (Observation(0, {"x": 50}, "done", -0.9, earlier=True),)
    driver = drive({"strategy": recorder, "stage": Stage(prior=prior)}, objectives={"size": "min"})
    driver.next()
    assert recorder.shown == [[(50, "lost", None)]]


def test_a_config_without_one_of_the_objectives_is_told_as_failed(drive):
    driver = drive(objectives={"size": "min"})
    job = driver.next()
    complete(driver, job)
    assert [seen.state for seen in driver.observations()] == ["failed"]


def test_params_and_seconds_are_objectives_that_nobody_reports(drive):
    driver = drive({"measure": lambda config: 70}, objectives={"params": "min", "epoch_s": "min"})
    complete(driver, driver.next(), 0.4, 0.5)
    (seen,) = driver.observations()
    assert seen.values == (-0.5, 70, 0.1)


def test_the_checkpoints_of_the_pareto_set_stay(drive):
    driver = drive(objectives={"size": "min"}, checkpoint={"keep": 1})
    for score, size in ((0.9, 9.0), (0.5, 1.0), (0.4, 5.0)):
        job = driver.next()
        kept = keep_state(driver, job, 1)
        driver.report(job.trial, 1, report(1, score, kept, size=size))
        driver.end(job.trial, 1, DONE)
    assert [bool(record.checkpoints) for record in driver.history.trials.values()] == [True, True, False]


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metrics", [{"score": math.nan}, {"score": math.inf}, {"score": 0.5, "val_loss": math.nan}])
def test_a_metric_that_is_not_finite_fails_the_trial(drive, metrics):
    driver = drive()
    job = driver.next()
    assert driver.report(job.trial, 1, Report(1, metrics, None, 0.1, "host:1"))
    record = driver.history.trials[job.trial]
    assert (record.status, record.cause) == ("failed", "config.non_finite")
    assert "must be finite" in record.error and list(record.epochs) == [1]
    # The strategy learns from it.
    driver.next()
    driver.next()
    assert driver.strategy.shown[-1][0] == (1, "failed", None)


def test_a_metric_that_is_not_finite_may_count_as_the_worst(drive):
    driver = drive(failure={"non_finite": "worst"})
    job = driver.next()
    assert not driver.report(job.trial, 1, report(1, math.nan))
    assert not driver.report(job.trial, 1, report(2, 0.25))
    driver.end(job.trial, 1, DONE)
    record = driver.history.trials[job.trial]
    assert record.status == "completed" and record.best_epoch("score", "max") == 2
    assert driver._curves[job.trial] == {1: math.inf, 2: -0.25}
    # One that was never finite teaches like a failure.
    other = driver.next()
    driver.report(other.trial, 1, report(1, math.nan))
    driver.end(other.trial, 1, DONE)
    assert [seen.state for seen in driver.observations()] == ["done", "failed"]


def test_other_metrics_need_not_be_finite(drive):
    driver = drive()
    job = driver.next()
    assert not driver.report(job.trial, 1, report(1, 0.5, val_roc_auc=math.nan))
    assert driver.history.trials[job.trial].status == "running"


def test_a_rule_stops_a_trial_and_the_journal_says_why(drive):
    driver = drive(max_epochs=9, stopping={"rules": ["plateau"], "plateau": {"patience": 1, "grace_epochs": 1}})
    job = driver.next()
    assert not driver.report(job.trial, 1, report(1))
    assert driver.report(job.trial, 1, report(2))
    record = driver.history.trials[job.trial]
    assert (record.status, record.cause, record.error) == ("stopped", None, None)
    assert kinds(driver)[-3:] == ["epoch", "stop", "end"]
    assert "plateau" in driver.journal.events()[-2].body["reason"]
    # It counts: a stopped trial has a result.
    driver.next()
    driver.next()
    assert driver.strategy.shown[-1][0] == (1, "done", -0.5)


def test_a_rule_never_stops_a_trial_at_its_last_epoch(drive):
    class Always(Rule):
        name: ClassVar[str] = "always"

        def decide(self, curves, trial, epoch, max_epochs):
            return "always"

    driver = drive({"rules": [Always()]}, max_epochs=1)
    job = driver.next()
    assert not driver.report(job.trial, 1, report(1))
    driver.end(job.trial, 1, DONE)
    assert driver.history.trials[job.trial].status == "completed"


def test_rules_see_values_to_be_minimised_in_the_order_they_came(drive):
    driver = drive()
    first, second = driver.next(), driver.next()
    driver.report(second.trial, 1, report(1, 0.7))
    driver.report(first.trial, 1, report(1, 0.2))
    driver.report(first.trial, 1, report(2, None))
    assert driver._curves == {"t0002": {1: -0.7}, "t0001": {1: -0.2}}


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_what_a_stale_attempt_sends_does_not_count(drive, attempt):
    driver = drive()
    job = driver.next()
    driver.end(job.trial, 1, LOST)
    driver.next()
    before = driver.journal.events()
    with pytest.raises(StaleAttempt):
        driver.report(job.trial, attempt, report(1))
    with pytest.raises(StaleAttempt):
        driver.end(job.trial, attempt, DONE)
    assert driver.journal.events() == before and not driver.is_current("t0099", 1)


def test_a_stale_worker_that_still_commits_touches_nothing_of_its_successor(drive):
    """Its node was given up, but it lives, and writes as fast as it can while its successor reports."""
    driver = drive({"strategy": Recorder()}, max_epochs=9, search={"trials": 1}, checkpoint={"keep": 2})
    stale = driver.next()
    driver.report(stale.trial, 1, report(1, 0.95, keep_state(driver, stale, 1)))
    driver.end(stale.trial, 1, Outcome("failed", "infrastructure.node_lost", "its node was lost."))
    job, over = driver.next(), threading.Event()
    assert (job.attempt, job.start_epoch) == (2, 1)

    def keep_writing():
        for epoch in itertools.count(2):
            if over.is_set():
                return
            with contextlib.suppress(OSError):  # its half-written folder was deleted under it
                body = keep_state(driver, stale, epoch % 9 + 1)
                with pytest.raises(StaleAttempt):
                    driver.report(stale.trial, 1, report(epoch % 9 + 1, 1.0, body))

    worker = threading.Thread(target=keep_writing)
    worker.start()
    for epoch in range(2, 10):
        driver.report(job.trial, 2, report(epoch, 0.1 * epoch, keep_state(driver, job, epoch)))
        for kept in driver.history.trials[job.trial].checkpoints:
            checkpoints.verify(driver.run, kept)
    over.set()
    worker.join()
    driver.end(job.trial, 2, DONE)
    record = fold(driver.journal.events()).trials[job.trial]
    assert {epoch: row.attempt for epoch, row in record.epochs.items()} == {1: 1} | dict.fromkeys(range(2, 10), 2)
    # What it left behind goes with the next pruning; the best epoch is one that counts.
    driver.tidy()
    assert [path.name for path in (driver.run / "checkpoints" / job.trial).iterdir()] == ["1-1"]


def test_what_comes_after_the_end_does_not_count(drive):
    driver = drive()
    job = driver.next()
    complete(driver, job)
    with pytest.raises(StaleAttempt):
        driver.report(job.trial, 1, report(2))


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", ["config.raised", "config.shape", "config.out_of_memory", "config.metric"])
def test_what_a_config_did_is_not_tried_again_and_teaches(drive, cause):
    driver = drive()
    job = driver.next()
    driver.end(job.trial, 1, Outcome("failed", cause, "no"))
    assert driver.next().trial == "t0002"
    assert driver.strategy.shown[-1] == [(1, "failed", None)]


@pytest.mark.parametrize("cause", ["infrastructure.worker_lost", "infrastructure.node_lost", "infrastructure.storage"])
def test_what_the_infrastructure_did_is_tried_again_and_teaches_nothing(drive, cause):
    driver = drive(failure={"max_retries": 2})
    lost = Outcome("failed", cause, "gone.")
    job = driver.next()
    for attempt in (1, 2, 3):
        assert (job.trial, job.attempt) == ("t0001", attempt)
        driver.end(job.trial, attempt, lost)
        job = driver.next()
    record = driver.history.trials["t0001"]
    assert job.trial == "t0002" and record.status == "failed"
    if cause == "infrastructure.worker_lost":
        # It took every worker down: that is the config's fault.
        assert record.cause == "config.raised" and "its worker died 3 times" in record.error
        assert driver.strategy.shown[-1] == [(1, "failed", None)]
    else:
        assert (record.cause, record.error) == (cause, "gone.")
        assert driver.strategy.shown[-1] == [(1, "lost", None)]


def test_a_timeout_is_tried_again_once_and_then_teaches(drive):
    driver = drive(failure={"max_retries": 3})
    job = driver.next()
    driver.end(job.trial, 1, Outcome("failed", "timeout", "slow"))
    record = driver.history.trials["t0001"]
    assert (record.status, record.cause, record.timeouts) == ("pending", "timeout", 1)
    assert driver.next().attempt == 2
    driver.end(job.trial, 2, Outcome("failed", "timeout", "slow"))
    assert (record.status, record.cause, record.infrastructure_failures) == ("failed", "timeout", 0)
    driver.next()
    assert driver.strategy.shown[-1] == [(1, "failed", None)]


def test_with_no_retries_a_timeout_is_the_end(drive):
    driver = drive(failure={"max_retries": 0})
    driver.end(driver.next().trial, 1, Outcome("failed", "timeout", "slow"))
    assert driver.history.trials["t0001"].status == "failed"


@pytest.mark.parametrize("blame", [False, True])
def test_attempts_whose_ray_died_are_all_tried_again(drive, blame):
    driver = drive(failure={"max_retries": 1})
    jobs = [driver.next(), driver.next()]
    driver.report(jobs[0].trial, 1, report(1))
    assert driver.epochs_done == 1
    driver.lose_all(blame=blame)
    assert driver.running == 0
    assert sorted((job.trial, job.attempt) for job in (driver.next(), driver.next())) == [("t0001", 2), ("t0002", 2)]
    assert [record.infrastructure_failures for record in driver.history.trials.values()] == [int(blame)] * 2


def test_an_attempt_that_never_began_costs_no_retry(drive):
    driver = drive(failure={"max_retries": 0})
    job = driver.next()
    for attempt in range(1, 6):
        driver.postpone(job.trial, attempt)
        job = driver.next()
    # It comes before any new trial, and the config is not blamed.
    assert (job.trial, job.attempt) == ("t0001", 6)
    complete(driver, job)
    assert driver.history.trials["t0001"].infrastructure_failures == 0


def test_a_trial_is_one_observation_with_its_repeats(drive):
    driver = drive(search={"repeats": 2, "trials": 4})
    jobs = [driver.next() for _ in range(6)]
    complete(driver, jobs[0], 0.2, 0.1)
    assert driver.observations()[0].state == "pending"
    complete(driver, jobs[1], 0.4)
    complete(driver, jobs[2], 0.4)
    driver.end(jobs[3].trial, 1, Outcome("failed", "config.raised", "no"))
    driver.end(jobs[4].trial, 1, Outcome("failed", "config.shape", "no"))
    driver.end(jobs[5].trial, 1, Outcome("failed", "config.shape", "no"))
    driver.next()
    seen = driver.observations()
    assert [one.state for one in seen] == ["done", "failed", "failed", "pending"]
    assert seen[0].loss == pytest.approx(-0.3)


def test_one_repeat_that_is_lost_leaves_the_others(drive):
    driver = drive(search={"repeats": 2}, failure={"max_retries": 0})
    lost = Outcome("failed", "infrastructure.node_lost", "gone.")
    first, second, third, fourth = (driver.next() for _ in range(4))
    complete(driver, first, 0.4)
    driver.end(second.trial, 1, lost)
    driver.end(third.trial, 1, lost)
    driver.end(fourth.trial, 1, lost)
    assert [(one.state, one.loss) for one in driver.observations()] == [("done", -0.4), ("lost", None)]


def test_what_is_over_is_worked_out_once(drive):
    # Strategies know a config by its identity: without that, each proposal costs time for every one before it.
    driver = drive()
    complete(driver, driver.next())
    driver.next()
    first, second = driver.observations(), driver.observations()
    assert first[0] is second[0] and first[1].config is second[1].config


# -- a resume ----------------------------------------------------------------------------------------------------------


def test_a_resume_tries_what_has_no_end_and_runs_nothing_again(drive):
    driver = drive()
    complete(driver, driver.next())
    left = driver.next()
    driver.report(left.trial, 1, report(1))
    resumed = again(driver)
    assert not resumed.finished and not resumed.nothing_left() and resumed.running == 0
    job = resumed.next()
    # Without a state it starts over: the epoch it had no longer counts.
    assert (job.trial, job.attempt, job.start_epoch, job.config) == ("t0002", 2, 0, left.config)
    assert resumed.history.trials["t0002"].epochs == {} and resumed.running == 1
    complete(resumed, job)
    third = resumed.next()
    assert third.trial == "t0003" and resumed.next() is None


def test_a_resume_goes_on_from_the_newest_valid_state(drive):
    driver = drive()
    job = driver.next()
    for epoch in (1, 2):
        driver.report(job.trial, 1, report(epoch, epoch, keep_state(driver, job, epoch)))
    resumed = again(driver)
    second = resumed.next()
    assert second.start_epoch == 2 and second.checkpoint.endswith("checkpoints/t0001/2-1")
    assert list(resumed.history.trials["t0001"].epochs) == [1, 2]
    # The newest is damaged: the one before it is used, which is said aloud, and epoch 2 is run again.
    (driver.run / "checkpoints/t0001/2-1/state.pt").write_bytes(b"damaged")
    third = again(resumed).next()
    assert third.start_epoch == 1 and third.checkpoint.endswith("checkpoints/t0001/1-1")
    warnings = [event.body for event in driver.journal.events() if event.kind == "note"]
    assert len(warnings) == 1 and "2-1/state.pt" in warnings[0]["warning"]


def test_rules_go_on_with_the_curves_they_had(drive):
    driver = drive()
    job = driver.next()
    driver.report(job.trial, 1, report(1, 0.25, keep_state(driver, job, 1)))
    driver.report(job.trial, 1, report(2, 0.5))
    resumed = again(driver)
    assert resumed._curves == {"t0001": {1: -0.25, 2: -0.5}}
    resumed.next()
    # Epoch 2 had no state, so it is run again: what it was does not count.
    assert resumed._curves == {"t0001": {1: -0.25}}


def test_a_finished_sweep_has_nothing_left_and_can_be_extended(drive):
    driver = drive(search={"trials": 2})
    while job := driver.next():
        complete(driver, job)
    assert again(driver).nothing_left() and again(driver).next() is None
    more = again(driver, search=driver.sweep.search.model_copy(update={"trials": 3}))
    assert not more.nothing_left() and more.next().trial == "t0003"


def test_missing_repeats_are_left_to_do(drive):
    driver = drive(search={"trials": 1, "repeats": 2})
    complete(driver, driver.next())
    assert not again(driver).nothing_left()
    complete(driver, driver.next())
    assert again(driver).nothing_left()


def test_an_interruption_ends_what_runs_and_costs_no_retry(drive):
    driver = drive()
    complete(driver, driver.next())
    driver.next()
    driver.interrupt()
    assert [record.status for record in driver.history.trials.values()] == ["completed", "interrupted"]
    rows = len(driver.journal.events())
    driver.interrupt()
    assert len(driver.journal.events()) == rows
    resumed = again(driver)
    assert resumed.next().attempt == 2 and resumed.history.trials["t0002"].infrastructure_failures == 0


def test_a_resume_that_is_interrupted_before_it_begins_loses_nothing(drive):
    driver = drive()
    driver.next()
    resumed = again(driver)
    resumed.interrupt()
    assert again(resumed).next().attempt == 2


def test_signals_are_held_back_while_the_journal_and_memory_change_together(drive):
    log = []

    @contextmanager
    def hold():
        rows = len(driver.journal.events())
        yield
        # Whatever was committed is known, too: an interruption here would see one truth.
        assert fold(driver.journal.events()) == driver.history
        log.append(len(driver.journal.events()) - rows)

    driver = drive({"hold": hold})
    complete(driver, driver.next())
    assert log == [2, 1, 1]  # a suggestion and its attempt, the report, the end


# -- what is kept ------------------------------------------------------------------------------------------------------


def kept(driver):
    return sorted(f"{path.parent.name}/{path.name}" for path in (driver.run / "checkpoints").glob("*/*"))


def test_a_running_trial_keeps_its_newest_states_and_its_best(drive):
    driver = drive(max_epochs=5, checkpoint={"keep": 2})
    job = driver.next()
    for epoch, score in enumerate([0.1, 0.9, 0.2, 0.3, 0.4], start=1):
        driver.report(job.trial, 1, report(epoch, score, keep_state(driver, job, epoch)))
    assert kept(driver) == ["t0001/2-1", "t0001/4-1", "t0001/5-1"]
    driver.end(job.trial, 1, DONE)
    assert kept(driver) == ["t0001/2-1"]


def test_of_finished_trials_the_best_are_kept(drive):
    driver = drive(search={"trials": 4}, max_epochs=1, checkpoint={"keep": 2})
    for score in (0.5, 0.9, 0.1, 0.7):
        job = driver.next()
        driver.report(job.trial, 1, report(1, score, keep_state(driver, job, 1)))
        driver.end(job.trial, 1, DONE)
    assert kept(driver) == ["t0002/1-1", "t0004/1-1"]


def test_a_config_keeps_its_states_until_all_its_repeats_are_over(drive):
    driver = drive(search={"trials": 2, "repeats": 2}, max_epochs=1, checkpoint={"keep": 1})
    for score in (0.9, 0.1):  # a mean of 0.5
        job = driver.next()
        driver.report(job.trial, 1, report(1, score, keep_state(driver, job, 1)))
        driver.end(job.trial, 1, DONE)
    assert kept(driver) == ["t0001/1-1"]
    for score, left in ((0.7, ["t0001/1-1", "t0003/1-1"]), (0.6, ["t0003/1-1"])):
        job = driver.next()
        driver.report(job.trial, 1, report(1, score, keep_state(driver, job, 1)))
        driver.end(job.trial, 1, DONE)
        assert kept(driver) == left


def test_a_failed_trial_keeps_nothing(drive):
    driver = drive(max_epochs=3)
    job = driver.next()
    driver.report(job.trial, 1, report(1, 0.9, keep_state(driver, job, 1)))
    driver.report(job.trial, 1, report(2, math.nan, keep_state(driver, job, 2)))
    assert kept(driver) == []


# -- a rule that ends the sweep ----------------------------------------------------------------------------------------

TARGET = {"stopping": {"rules": ["target"], "target": {"value": 0.9}}, "mode": "max", "max_epochs": 9}


def reached(drive):
    """Return a driver of two trials at once, of which the second has reached the target, and both jobs."""
    driver = drive(**TARGET)
    one, two = driver.next(), driver.next()
    assert not driver.report(one.trial, 1, report(1, 0.5)) and not driver.report(two.trial, 1, report(1, 0.8))
    assert driver.report(two.trial, 1, report(2, 0.95))
    return driver, one, two


def test_a_target_ends_the_sweep_and_what_is_in_flight(drive):
    driver, one, _ = reached(drive)

    # no further trial, though a third was asked for
    assert driver.next() is None and not driver.finished
    # what runs ends at its next report
    assert driver.report(one.trial, 1, report(2, 0.6))
    assert driver.finished and driver.nothing_left()
    assert [record.status for record in driver.history.trials.values()] == ["stopped", "stopped"]
    why = "target: t0002 reached 0.95 at epoch 2, where 0.9 was asked for"
    assert driver.over == why
    # said once in the journal, and each trial's decision with its reason
    assert [event.body for event in driver.journal.events() if event.kind == "note"] == [{"over": why}]
    assert [event.body["reason"] for event in driver.journal.events() if event.kind == "stop"] == [why, why]


def test_only_what_meets_the_constraints_reaches_a_target(drive):
    driver = drive(**TARGET, constraints=["latency < 5"])
    slow, quick = driver.next(), driver.next()
    assert not driver.report(slow.trial, 1, report(1, 0.95, latency=100.0)) and driver.over is None
    # A resume judges by what the journal says, and so does the other trial.
    assert again(driver).over is None and not driver.report(quick.trial, 1, report(1, 0.5, latency=4.0))
    assert driver.report(quick.trial, 1, report(2, 0.92, latency=4.0))
    assert driver.over == "target: t0002 reached 0.92 at epoch 2, where 0.9 was asked for" == again(driver).over
    # What is in flight ends with it, whatever it is itself.
    assert driver.report(slow.trial, 1, report(2, 0.97, latency=100.0))


def test_a_config_of_which_a_repeat_breaks_a_constraint_reaches_no_target(drive):
    driver = drive(**TARGET, constraints=["latency < 5"], search={"repeats": 2})
    slow, quick = driver.next(), driver.next()
    driver.report(slow.trial, 1, report(1, 0.95, latency=100.0))
    assert not driver.report(quick.trial, 1, report(1, 0.95, latency=4.0)) and driver.over is None


def test_a_target_that_was_reached_stays_so_and_a_better_one_goes_on(drive):
    driver, one, _ = reached(drive)

    # a driver killed here: nothing is left to do, also for the trial that was in flight
    resumed = again(driver)
    assert resumed.over and resumed.next() is None and resumed.finished and resumed.nothing_left()

    stopping = driver.sweep.stopping.model_copy(update={"options": {"target": {"value": 0.99}}})
    further = again(driver, stopping=stopping)
    assert further.over is None and further.next().trial == one.trial and not further.nothing_left()


def test_a_target_reached_in_the_last_epoch_ends_the_sweep_too(drive):
    driver = drive(**TARGET | {"max_epochs": 2})
    job = driver.next()
    driver.report(job.trial, 1, report(1, 0.5))

    # the trial is done anyway, and returns
    assert not driver.report(job.trial, 1, report(2, 0.95))
    driver.end(job.trial, 1, DONE)

    assert driver.next() is None and driver.finished
    assert driver.history.trials[job.trial].status == "completed"


def test_a_config_that_is_known_late_has_its_place_among_the_observations():
    def proposed(number, proposal):
        told = {"stage": "search", "fold": None, "repeat": 0, "config": {"x": number}, "seed": 0, "by": "", "why": ""}
        history.trials[f"t{number}"] = TrialRecord(f"t{number}", number=number, proposal=proposal, **told)

    sweep, history = make_sweep(print, {"x": tuner.Uniform(0, 9)}), History()
    asking = Asking(make_strategy(sweep), sweep, history, Stage())
    for number, proposal in enumerate((1, 3), start=1):
        proposed(number, proposal)
    assert [(one.index, one.config["x"]) for one in asking.observations()] == [(1, 1), (3, 2)]
    proposed(3, 2)
    proposed(4, 4)
    assert [(one.index, one.config["x"]) for one in asking.observations()] == [(1, 1), (2, 3), (3, 2), (4, 4)]
