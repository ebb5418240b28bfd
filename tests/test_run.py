from __future__ import annotations

import json
import signal
import sys
import threading
import tomllib

import pytest
import torch
from conformance_backends import keeps, make_sweep, same

import tuner
import tuner.run  # which must not hide the function of that name
from tuner.drive import Watch
from tuner.errors import Interrupted
from tuner.journal import FILE_NAME, read
from tuner.run_folder import lock


def climbs(config, trial):
    """Its second epoch is its best; it keeps a state."""
    for epoch in range(trial.start_epoch + 1, 4):
        weights = {"model": {"weight": torch.ones(2) * epoch}, "epoch": epoch}
        trial.report(epoch=epoch, score=config["x"] + (0, 1, 0.5)[epoch - 1], other=epoch, state=weights)


def inline(trainable, tmp_path, space=None, name="run", watch=None, **more):
    sweep = make_sweep(trainable, {"x": tuner.Uniform(0, 1)} if space is None else space, **more)
    return tuner.run(sweep, storage=tmp_path, name=name, backend="inline", watch=watch)


def interrupt_at(trial, epoch):
    def strike(event):
        if (event.kind, event.trial, event.epoch) == ("epoch", trial, epoch):
            signal.raise_signal(signal.SIGINT)

    return Watch(on_event=strike)


# -- a run folder ------------------------------------------------------------------------------------------------------


def test_a_run_leaves_everything_in_its_folder(tmp_path):
    results = inline(climbs, tmp_path)
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")}
    assert {"sweep.toml", "provenance.json", FILE_NAME, "logs", "checkpoints", "best"} <= names
    # Python, and who reads the folder, see the same.
    assert same(results, tuner.load(tmp_path / "run")) and results.status == "completed"


def test_the_best_is_the_best_epoch_of_the_best_trial_with_its_model(tmp_path):
    best = inline(climbs, tmp_path).best()
    folder = tmp_path / "run" / "best"
    assert tomllib.loads((folder / "config.toml").read_text()) == best.config
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["epoch"], metrics["metrics"]["other"], metrics["value"]) == (2, 2, best.config["x"] + 1)
    assert torch.load(folder / "model.pt", weights_only=True)["weight"].tolist() == [2, 2]
    assert not (folder / "preprocess.json").exists()


def test_a_sweep_of_which_nothing_completed_has_failed(tmp_path):
    results = inline(lambda config, trial: None, tmp_path)
    assert results.status == "failed" and not (tmp_path / "run" / "best").exists()


def test_a_display_sees_the_plan_first_and_then_every_event(tmp_path):
    seen = []
    watch = Watch(on_plan=lambda plan, folder: seen.append(plan.trials), on_event=lambda event: seen.append(event.kind))
    inline(climbs, tmp_path, watch=watch, search={"strategy": "random", "trials": 1})
    trial = ["suggestion", "attempt", *["epoch", "checkpoint"] * 3, "end"]
    # The last one notes how it ended.
    assert seen == [1, *trial, "note"]


def test_a_mistake_in_the_trainable_is_told_before_a_folder_is_made(tmp_path):
    with pytest.raises(tuner.TunerError, match="nowhere"):
        inline("nowhere.py:train", tmp_path)
    assert not any(tmp_path.iterdir())


def test_only_ray_joins_a_cluster(tmp_path):
    with pytest.raises(tuner.TunerError, match=r"--address: only backend \"ray\" joins a cluster"):
        tuner.run(make_sweep(climbs, {"x": 0.5}), storage=tmp_path, backend="inline", address="auto")


def test_this_process_has_its_threads_again(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        inline(climbs, tmp_path)
        counts = [torch.get_num_threads()]
        thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert counts == [2, 2]  # also for threads to come
    finally:
        torch.set_num_threads(before)


# -- a resume ----------------------------------------------------------------------------------------------------------


def test_a_finished_sweep_is_returned_as_it_is(tmp_path):
    results = inline(climbs, tmp_path)
    rows = len(read(tmp_path / "run" / FILE_NAME))
    # On Ray, too: it is not even started.
    assert same(results, tuner.resume(tmp_path / "run", trainable=climbs))
    assert len(read(tmp_path / "run" / FILE_NAME)) == rows


def test_a_finished_sweep_can_be_extended(tmp_path):
    inline(climbs, tmp_path)
    results = tuner.resume(tmp_path / "run", trainable=climbs, trials=4, backend="inline")
    assert list(results.trials["attempts"]) == [1] * 4 and set(results.trials["status"]) == {"completed"}
    # The same as if it had been asked for at once.
    assert same(results, inline(climbs, tmp_path, name="other", search={"strategy": "random", "trials": 4}))


def test_an_extension_that_was_interrupted_is_still_one(tmp_path):
    inline(climbs, tmp_path)
    with pytest.raises(Interrupted):
        tuner.resume(tmp_path / "run", trainable=climbs, trials=4, backend="inline", watch=interrupt_at("t0003", 1))
    # The command that is printed says nothing of 4 trials, and need not.
    results = tuner.resume(tmp_path / "run", trainable=climbs, backend="inline")
    assert list(results.trials["status"]) == ["completed"] * 4
    assert tuner.resume(tmp_path / "run", trainable=climbs, backend="inline").trials.shape[0] == 4


def test_any_number_of_interruptions_give_the_untouched_result(tmp_path):
    space = {"folder": str(tmp_path), "x": tuner.Uniform(0, 1), "with_state": True}
    whole = inline(keeps, tmp_path, space, name="whole")
    (tmp_path / "executed.txt").unlink()
    with pytest.raises(Interrupted):
        inline(keeps, tmp_path, space, watch=interrupt_at("t0001", 1))
    for place in (("t0001", 2), ("t0001", 3), ("t0002", 1), ("t0002", 3)):
        with pytest.raises(Interrupted) as stopped:
            tuner.resume(tmp_path / "run", trainable=keeps, backend="inline", watch=interrupt_at(*place))
        assert stopped.value.exit_status == 130 and "tuner resume" in str(stopped.value)
    results = tuner.resume(tmp_path / "run", trainable=keeps, backend="inline")
    assert same(results, whole)
    assert (tmp_path / "executed.txt").read_text().split() == [f"{n}.{e}" for n in (1, 2) for e in (1, 2, 3)]


def test_a_function_is_asked_for_again(tmp_path):
    with pytest.raises(Interrupted):
        inline(climbs, tmp_path, watch=interrupt_at("t0001", 1))
    with pytest.raises(tuner.TunerError, match="trainable"):
        tuner.resume(tmp_path / "run", backend="inline")
    assert tuner.resume(tmp_path / "run", trainable=climbs, backend="inline").status == "completed"


READS_BESIDE = """
from pathlib import Path
HERE = Path(__file__).parent
SIZE = int((HERE / "size.txt").read_text())

def build(config, data):
    return None

def train(config, trial):
    trial.report(epoch=1, score=SIZE)
    trial.report(epoch=2, score=SIZE)
"""


def test_a_resume_runs_the_frozen_code_at_its_old_place(tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    (code / "mine.py").write_text(READS_BESIDE)
    (code / "size.txt").write_text("3")
    with pytest.raises(Interrupted):
        inline(f"{code / 'mine.py'}:train", tmp_path, watch=interrupt_at("t0001", 1))
    # What was edited since the start is not run; what lies beside it is still found.
    (code / "mine.py").write_text("raise RuntimeError('edited')")
    results = tuner.resume(tmp_path / "run", backend="inline")
    assert list(results.trials["status"]) == ["completed"] * 2 and set(results.epochs["score"]) == {3}


def test_a_folder_that_was_moved_is_resumed_where_it_is(tmp_path):
    (tmp_path / "mine.py").write_text("def train(config, trial):\n    trial.report(epoch=1, score=config['x'])\n")
    with pytest.raises(Interrupted):
        inline(f"{tmp_path / 'mine.py'}:train", tmp_path, watch=interrupt_at("t0001", 1))
    (tmp_path / "run").rename(tmp_path / "moved")
    results = tuner.resume(tmp_path / "moved", backend="inline")
    assert results.status == "completed" and results.folder == tmp_path / "moved"


def test_a_second_driver_is_refused(tmp_path):
    inline(climbs, tmp_path)
    with lock(tmp_path / "run"), pytest.raises(tuner.RunError, match="only one driver may run a sweep, but process"):
        tuner.resume(tmp_path / "run", trainable=climbs, trials=9, backend="inline")
    assert tuner.load(tmp_path / "run").trials.shape[0] == 2


def test_a_run_folder_that_is_made_can_be_resumed_whenever_a_signal_comes(tmp_path, monkeypatch):
    module = sys.modules["tuner.run"]
    monkeypatch.setattr(module, "write_provenance", lambda folder, sweep: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted) as interrupted:
        inline(climbs, tmp_path)
    # It came before the first row, and waited for it.
    assert interrupted.value.exit_status == 143 and str(interrupted.value).endswith(f"tuner resume {tmp_path / 'run'}")
    assert tuner.resume(tmp_path / "run", trainable=climbs, backend="inline").status == "completed"


def test_a_sweep_can_be_run_in_a_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(inline(climbs, tmp_path)))
    thread.start()
    thread.join()
    assert results[0].status == "completed"


def test_points_that_name_a_default_are_each_run_once(tmp_path):
    def scores(config, trial):
        trial.report(score=config["x"] + config["y"])

    points = [{"x": 0.1}, {"x": 0.3}, {"y": 7}]
    results = inline(scores, tmp_path, {}, defaults={"x": 0.5, "y": 5}, search={"points": points}, max_epochs=1)
    configs = [record.config for record in results.records()]
    assert configs == [{"x": 0.1, "y": 5}, {"x": 0.3, "y": 5}, {"x": 0.5, "y": 7}]
    again = tuner.resume(tmp_path / "run", trainable=scores, backend="inline")
    assert len(again.trials) == 3
