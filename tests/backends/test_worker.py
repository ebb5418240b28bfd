from __future__ import annotations

import dataclasses
import errno
import json
import math
import random
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from torch import nn

from tuner import checkpoints
from tuner.backends.outbox import Outbox
from tuner.backends.worker import Job, MetricError, Report, WorkerTrial, classify, plain_metrics, run_attempt
from tuner.errors import ConfigError, DataError, ShapeError, StopTrial
from tuner.history import CheckpointRecord


def job(folder, **changes):
    fields = {"run": str(folder), "trial": "t0007", "number": 7, "attempt": 2, "seed": 5, "config": {"x": 0.5}}
    return Job(**(fields | {"max_epochs": 3, "metric": "score"} | changes))


class Sent(list):
    """Takes reports as a driver does, and asks to stop after so many."""

    stop_after = math.inf

    def __call__(self, report: Report) -> bool:
        self.append(report)
        return len(self) >= self.stop_after


@pytest.fixture
def sent():
    return Sent()


def attempt(folder, train, sent, **changes):
    return run_attempt(job(folder, **changes), train, None, sent)


# -- what a trainable sees ---------------------------------------------------------------------------------------------


def test_a_trial_tells_a_trainable_what_it_is(tmp_path, sent):
    def train(config, trial):
        assert config == {"x": 0.5}
        assert (trial.number, trial.seed, trial.device, trial.data) == (7, 5, "cpu", None)
        assert (trial.max_epochs, trial.start_epoch, trial.state) == (3, 0, None)
        trial.report(epoch=1, score=0.5)

    assert attempt(tmp_path, train, sent).status == "completed"


def test_the_config_is_the_trainables_own_copy(tmp_path, sent):
    mine = job(tmp_path, config={"layers": [1, 2]})

    def train(config, trial):
        config["layers"].append(3)
        trial.report(epoch=1, score=0)

    run_attempt(mine, train, None, sent)
    assert mine.config == {"layers": [1, 2]}


def test_a_report_becomes_plain_numbers(tmp_path, sent):
    def train(config, trial):
        trial.report(epoch=1, score=torch.tensor(0.5), hits=np.int64(3), ok=True, sure=np.bool_(False), later=None)

    attempt(tmp_path, train, sent)
    (report,) = sent
    assert report.epoch == 1 and report.checkpoint is None and report.elapsed_s >= 0
    assert report.metrics == {"score": 0.5, "hits": 3, "ok": 1, "sure": 0, "later": None}
    # Exactly what a journal takes, and the same again after its way through JSON.
    assert [type(value) for value in report.metrics.values()] == [float, int, int, int, type(None)]
    assert json.loads(json.dumps(dataclasses.asdict(report))) == dataclasses.asdict(report)


@pytest.mark.parametrize("value", ["0.5", [0.5], {}, 1j, torch.zeros(2), np.zeros(3), object(), 10**400])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(MetricError, match=r"score must be a number or None, but got \("):
        plain_metrics({"score": value}, "score")


def test_a_whole_number_that_no_column_can_hold_is_a_float():
    assert plain_metrics({"score": 2**64}, "score") == {"score": float(2**64)}


@pytest.mark.parametrize("name", ["trial", "number", "epoch", "reported_at", "state", "predictions"])
def test_a_metric_must_not_hide_a_column(name):
    with pytest.raises(MetricError, match=f'must not be named "{name}"'):
        plain_metrics({"score": 1, name: 2}, "score")


@pytest.mark.parametrize(
    ("metrics", "remedy"),
    [
        ({"scores": 1}, r'got \(scores\)\. Set sweep\.metric = "scores", or rename it'),
        ({"accuracy": 1, "loss": 2}, r"got \(accuracy, loss\)\. Set sweep\.metric to one"),
        ({}, r"got \(no metrics\)\. Set sweep\.metric to one"),
    ],
)
def test_a_missing_metric_names_what_was_reported(metrics, remedy):
    with pytest.raises(MetricError, match=remedy):
        plain_metrics(metrics, "score")


@pytest.mark.parametrize("epoch", [0, 2, -1, 1.5, "1", math.nan])
def test_epochs_count_from_one(tmp_path, sent, epoch):
    trial = WorkerTrial(job(tmp_path), None, sent, Outbox(str(tmp_path), "log"))
    with pytest.raises(ConfigError, match="epoch must be 1"):
        trial.report(epoch=epoch, score=1)
    assert not sent


def test_an_epoch_left_out_is_the_next(tmp_path, sent):
    trial = WorkerTrial(job(tmp_path, start_epoch=1), None, sent, Outbox(str(tmp_path), "log"))
    trial.report(score=1)
    assert sent[0].epoch == 2


def test_a_metric_may_have_any_name(tmp_path, sent):
    WorkerTrial(job(tmp_path), None, sent, Outbox(str(tmp_path), "log")).report(
        epoch=1, score=1, **{"val/acc (top 5)": 0.5}
    )
    assert sent[0].metrics["val/acc (top 5)"] == 0.5


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "kept"), [(1, [1, 2, 3]), (2, [2, 3]), (9, [3])])
def test_a_state_is_kept_every_so_many_epochs_and_after_the_last(tmp_path, sent, every, kept):
    def train(config, trial):
        for epoch in range(1, 4):
            trial.report(epoch=epoch, score=0, state={"weights": torch.ones(2) * epoch})

    attempt(tmp_path, train, sent, every_epochs=every)
    committed = [report.checkpoint for report in sent if report.checkpoint]
    assert [entry["path"] for entry in committed] == [f"checkpoints/t0007/{epoch}-2" for epoch in kept]
    # It is on the disk, whole, before the driver hears of it.
    record = CheckpointRecord(3, 2, committed[-1]["path"], committed[-1]["sha256"])
    assert checkpoints.load(checkpoints.verify(tmp_path, record)).state["weights"].tolist() == [3, 3]


def test_an_attempt_starts_from_the_kept_state(tmp_path, sent):
    body = checkpoints.commit(tmp_path, checkpoints.Place("t0007", 2, 1), {"weights": torch.ones(2)}, {"score": 1.0})
    seen = []

    def train(config, trial):
        seen.append((trial.start_epoch, trial.state["weights"].tolist()))
        trial.report(epoch=trial.start_epoch + 1, score=0)

    attempt(tmp_path, train, sent, start_epoch=2, checkpoint=str(tmp_path / body["path"]))
    assert seen == [(2, [1, 1])] and sent[0].epoch == 3


def test_a_resumed_attempt_draws_the_numbers_that_it_would_have_drawn(tmp_path, sent):
    """As people write it: a model that draws its weights, then the state, then a loop that shuffles and drops out."""

    def train(config, trial):
        torch.nn.Linear(3, 3)
        np.random.normal(size=config["more"])  # and something that this machine does more often
        total = trial.state["total"] if trial.state else 0.0
        for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
            total += torch.rand(1).item() + random.random() + np.random.normal()
            trial.report(epoch=epoch, score=total, state={"total": total})

    attempt(tmp_path, train, sent, config={"more": 1})
    untouched = [report.metrics["score"] for report in sent]
    kept = tmp_path / sent[1].checkpoint["path"]
    sent.clear()
    attempt(tmp_path, train, sent, config={"more": 5}, attempt=3, start_epoch=2, checkpoint=str(kept))
    assert [report.metrics["score"] for report in sent] == untouched[2:]


def test_nothing_is_left_to_do_for_a_trial_that_died_after_its_last_epoch(tmp_path, sent):
    body = checkpoints.commit(tmp_path, checkpoints.Place("t0007", 3, 1), {"x": 1}, {"score": 1.0})

    def train(config, trial):
        for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
            trial.report(epoch=epoch, score=0)

    outcome = attempt(tmp_path, train, sent, start_epoch=3, checkpoint=str(tmp_path / body["path"]))
    assert outcome.status == "completed" and not sent


def test_a_state_that_could_not_be_loaded_again_fails_the_trial(tmp_path, sent):
    outcome = attempt(tmp_path, lambda config, trial: trial.report(epoch=1, score=0, state={"f": print}), sent)
    assert outcome.cause == "config.raised" and "state must be a dict of tensors and plain values" in outcome.error
    assert not sent


# -- how it ends -------------------------------------------------------------------------------------------------------


def test_a_trial_that_is_told_to_stop_hears_it_at_every_report(tmp_path, sent):
    sent.stop_after = 1
    heard = []

    def train(config, trial):
        for epoch in range(1, 10):
            try:
                trial.report(epoch=epoch, score=0)
            except StopTrial as stop:
                heard.append(str(stop))

    assert attempt(tmp_path, train, sent).status == "completed"  # the driver has ended it in its own words
    assert len(sent) == 1 and len(heard) == 9


def test_what_a_trainable_raises_while_it_clears_up_does_not_hide_its_own_error(tmp_path, sent):
    def train(config, trial):
        try:
            raise ValueError("first")
        finally:
            print("cleared up")

    assert attempt(tmp_path, train, sent).error == "ValueError: first"
    assert "cleared up" in (tmp_path / job(tmp_path).log).read_text()


def test_a_refused_report_counts_though_the_trainable_swallows_it(tmp_path, sent):
    def train(config, trial):
        for epoch in range(1, 4):
            try:
                trial.report(epoch=epoch, scor=0)
            except Exception as error:
                print(error)

    outcome = attempt(tmp_path, train, sent)
    assert (outcome.status, outcome.cause) == ("failed", "config.metric") and '"scor"' in outcome.error


def test_ctrl_c_ends_the_process_and_not_the_trial(tmp_path, sent):
    def train(config, trial):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path, train, sent)
    # In a worker of Ray's the trainable is no main thread: what comes there is no Ctrl-C.
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(attempt(tmp_path, train, sent)))
    thread.start()
    thread.join()
    assert outcomes[0].cause == "config.raised"


def test_a_log_that_cannot_be_written_is_the_disks_fault(tmp_path, sent):
    (tmp_path / "logs").write_text("in the way")
    outcome = attempt(tmp_path, lambda config, trial: trial.report(epoch=1, score=0), sent)
    assert outcome.status == "failed" and outcome.error.startswith("FileExistsError")


def test_output_goes_to_the_log_and_with_tee_also_where_it_went(tmp_path, sent, capsys):
    def train(config, trial):
        print("said")
        print("complained", file=sys.stderr)
        trial.report(epoch=1, score=0)

    attempt(tmp_path, train, sent)
    assert (tmp_path / job(tmp_path).log).read_text() == "said\ncomplained\n"
    assert capsys.readouterr() == ("", "")
    run_attempt(job(tmp_path, attempt=3), train, None, sent, tee=True)
    assert (tmp_path / job(tmp_path, attempt=3).log).read_text() == "said\ncomplained\n"
    assert capsys.readouterr() == ("said\n", "complained\n")


def test_the_log_holds_what_is_no_text(tmp_path, sent):
    attempt(tmp_path, lambda config, trial: print("\udce9 \N{SNOWMAN}"), sent)
    assert (tmp_path / job(tmp_path).log).read_text() == "\\udce9 \N{SNOWMAN}\n"


# -- causes ------------------------------------------------------------------------------------------------------------


def mismatch_linear():
    nn.Linear(3, 4)(torch.zeros(2, 5))


def mismatch_conv():
    nn.Conv2d(3, 4, 3)(torch.zeros(2, 1, 8, 8))


def kernel_too_large():
    nn.Conv2d(1, 1, 9)(torch.zeros(1, 1, 4, 4))


def pooled_away():
    nn.MaxPool2d(2)(torch.zeros(1, 1, 1, 1))


def mismatch_add():
    torch.zeros(3) + torch.zeros(4)


def mismatch_view():
    torch.zeros(6).view(4, 2)


def mismatch_loss():
    nn.functional.cross_entropy(torch.zeros(4, 3), torch.zeros(5, dtype=torch.long))


def mismatch_cat():
    torch.cat([torch.zeros(2, 3), torch.zeros(2, 4)])


def mismatch_norm():
    nn.BatchNorm2d(3)(torch.zeros(2, 4, 8, 8))


def mismatch_load():
    nn.Linear(2, 2).load_state_dict(nn.Linear(3, 3).state_dict())


def mismatch_bmm():
    torch.bmm(torch.zeros(2, 3, 4), torch.zeros(2, 5, 6))


def numpy_matmul():
    np.zeros((2, 3)) @ np.zeros((4, 5))


def numpy_broadcast():
    np.zeros(3) + np.zeros(4)


SHAPES = [
    mismatch_linear,
    mismatch_conv,
    kernel_too_large,
    pooled_away,
    mismatch_add,
    mismatch_view,
    mismatch_loss,
    mismatch_cat,
    mismatch_norm,
    mismatch_load,
    mismatch_bmm,
    numpy_matmul,
    numpy_broadcast,
]


@pytest.mark.parametrize("breaks", SHAPES)
def test_shapes_that_do_not_fit_are_told_from_other_errors(breaks):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        breaks()
    cause, sentence = classify(caught.value)
    assert cause == "config.shape" and "\n" not in sentence


def too_much_memory():
    torch.empty(2**55)


def test_out_of_memory_names_the_batch_size(tmp_path, sent):
    def full(config, trial):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    outcome = run_attempt(job(tmp_path, config={"batch_size": 4096}), full, None, sent.append)
    assert outcome.cause == "config.out_of_memory"
    assert outcome.error.endswith("2.00 GiB. This config has batch_size = 4096; lower its range.")


def too_much_numpy_memory():
    np.ones(2**50)


@pytest.mark.parametrize("breaks", [too_much_memory, too_much_numpy_memory])
def test_too_little_memory_is_told_from_other_errors(breaks):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        breaks()
    assert classify(caught.value)[0] == "config.out_of_memory"


@pytest.mark.parametrize(
    ("error", "cause", "sentence"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "config.out_of_memory",
            "OutOfMemoryError: CUDA out of memory.",
        ),
        (ShapeError("image 8x8 is too small"), "config.shape", "image 8x8 is too small"),
        (ConfigError("dropout: 0 <= dropout < 1"), "config.raised", "dropout: 0 <= dropout < 1"),
        (DataError("a.png: damaged"), "config.raised", "a.png: damaged"),
        (OSError(errno.ENOSPC, "No space left"), "infrastructure.storage", "OSError: [Errno 28] No space left"),
        (FileNotFoundError(errno.ENOENT, "gone"), "config.raised", "FileNotFoundError: [Errno 2] gone"),
        (KeyError("lr"), "config.raised", "KeyError: 'lr'"),
        (ValueError(), "config.raised", "ValueError"),
        (RuntimeError("a\n  b\n\n c"), "config.raised", "RuntimeError: a b c"),
        (SystemExit(), "config.raised", "SystemExit"),
    ],
)
def test_an_error_becomes_a_cause_and_one_sentence(error, cause, sentence):
    assert classify(error) == (cause, sentence)


def test_a_sentence_is_no_book():
    assert len(classify(ValueError("x" * 10_000))[1]) == 500


# -- what is seeded ----------------------------------------------------------------------------------------------------


def test_every_generator_is_seeded_and_torch_has_its_threads(tmp_path, sent):
    draws = []

    def train(config, trial):
        draws.append((random.random(), np.random.rand(), torch.rand(1).item(), torch.get_num_threads()))
        trial.report(epoch=1, score=0)

    for seed in (1, 1, 2):
        attempt(tmp_path, train, sent, seed=seed, threads=1)
    assert draws[0] == draws[1]
    assert all(first != other for first, other in zip(draws[0][:3], draws[2][:3], strict=True))
    assert draws[0][3] == 1


def test_a_trainable_without_torch_does_not_pay_for_it(tmp_path):
    code = """
        import sys
        from tuner.backends.worker import Job, run_attempt

        job = Job(run=".", trial="t", number=1, attempt=1, seed=5, config={}, max_epochs=1, metric="score")
        run_attempt(job, lambda config, trial: trial.report(epoch=1, score=0), None, lambda report: False)
        assert not {"torch", "ray", "hyperopt", "tuner.backends.driver", "tuner.strategies"} & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
