"""What every backend must hold. A backend inherits BackendConformance and says how it runs a sweep.

The trainables here are loaded by the workers as "conformance_backends:name", unless a test says otherwise.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import tuner
from tuner.backends.driver import Driver
from tuner.cli.summary import verdict
from tuner.drive import Watch
from tuner.errors import Interrupted
from tuner.history import fold
from tuner.journal import FILE_NAME, Journal
from tuner.run import _freeze
from tuner.stopping import make_rules
from tuner.strategies import Proposal, make_strategy

EPOCHS = 3

# -- trainables -------------------------------------------------------------------------------------------------------


def _raises(config, trial):
    print("before the end")
    print("and this went wrong", file=sys.stderr)
    raise ValueError("no such layer\nin this network")


def _returns_dict_at_once(config, trial):
    return {"score": 100.0}


def _returns_dict_at_the_end(config, trial):
    for epoch in range(1, trial.max_epochs + 1):
        trial.report(epoch=epoch, score=0.1 * epoch)
    return {"score": 100.0}


def _returns_nothing(config, trial):
    pass


def _nan(config, trial):
    trial.report(epoch=1, score=0.5)
    trial.report(epoch=2, score=math.nan)


def _inf(config, trial):
    trial.report(epoch=1, score=-math.inf)


def _nan_loss(config, trial):
    trial.report(epoch=1, score=0.5, train_loss=math.nan, note=math.nan)


def _nan_aside(config, trial):
    trial.report(epoch=1, score=0.5, val_roc_auc=math.nan)


def _not_defined_yet(config, trial):
    trial.report(epoch=1, score=None)
    trial.report(epoch=2, score=0.5)


def _misspelt(config, trial):
    trial.report(epoch=1, scor=0.5)


def _misspelt_and_swallowed(config, trial):
    for epoch in range(1, trial.max_epochs + 1):
        try:
            trial.report(epoch=epoch, scor=0.5)
        except Exception as error:
            print("ignored:", error)


def _text(config, trial):
    trial.report(epoch=1, score="high")


def _reserved(config, trial):
    trial.report(epoch=1, score=0.5, number=3)


def _out_of_memory(config, trial):
    raise MemoryError("Unable to allocate 2.00 TiB")


def _shapes(config, trial):
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 9x2)")


def _exits(config, trial):
    sys.exit(3)


def _too_long(config, trial):
    for epoch in range(1, trial.max_epochs + 5):
        trial.report(epoch=epoch, score=0.1 * epoch)


def _skips(config, trial):
    trial.report(epoch=1, score=0.5)
    trial.report(epoch=3, score=0.5)


def _stops_itself(config, trial):
    trial.report(epoch=1, score=0.5)
    raise tuner.StopTrial


def _stops_unheard(config, trial):
    raise tuner.StopTrial


def _spoils_its_config(config, trial):
    config["layers"].append(100)
    trial.report(epoch=1, score=float(len(config["layers"])))


# What each does, and what must come of it: status, cause, the sentence (a pattern), the epochs in the journal.
BAD = {
    _raises: ("failed", "config.raised", r"ValueError: no such layer in this network", 0),
    _returns_dict_at_once: ("failed", "config.metric", r"returned a dict without calling trial\.report\. Call", 0),
    _returns_dict_at_the_end: ("completed", None, None, EPOCHS),
    _returns_nothing: ("failed", "config.metric", r"returned nothing without calling trial\.report\. Call .*score", 0),
    _nan: ("failed", "config.non_finite", r"score must be finite, but got \(nan\) at epoch 2\.", 2),
    _inf: ("failed", "config.non_finite", r"score must be finite, but got \(-inf\) at epoch 1\.", 1),
    _nan_loss: ("failed", "config.non_finite", r"train_loss must be finite, but got \(nan\) at epoch 1\.", 1),
    _nan_aside: ("completed", None, None, 1),
    _not_defined_yet: ("completed", None, None, 2),
    _misspelt: ("failed", "config.metric", r'metric "score", but got \(scor\)\. Set sweep\.metric = "scor"', 0),
    _misspelt_and_swallowed: ("failed", "config.metric", r'metric "score", but got \(scor\)', 0),
    _text: ("failed", "config.metric", r"score must be a number or None, but got \(str 'high'\)", 0),
    _reserved: ("failed", "config.metric", r'a metric must not be named "number"', 0),
    _out_of_memory: ("failed", "config.out_of_memory", r"MemoryError: Unable to allocate 2\.00 TiB", 0),
    _shapes: ("failed", "config.shape", r"RuntimeError: mat1 and mat2 shapes cannot be multiplied", 0),
    _exits: ("failed", "config.raised", r"SystemExit: 3", 0),
    _too_long: ("completed", None, None, EPOCHS),
    _skips: ("failed", "config.raised", r"epoch must be 2 \(one more than the last\), but got \(epoch=3\)", 1),
    _stops_itself: ("completed", None, None, 1),
    _stops_unheard: ("failed", "config.metric", r"without calling trial\.report", 0),
    _spoils_its_config: ("completed", None, None, 1),
}
_BY_NAME = {function.__name__: function for function in BAD}


def bad(config, trial):
    return _BY_NAME[config["case"]](config, trial)


def unequal(config, trial):
    """Some trials get better; others do not, and try to ignore that they are told to stop."""
    for epoch in range(1, trial.max_epochs + 1):
        try:
            trial.report(epoch=epoch, score=epoch * config["slope"], pid=os.getpid())
        except BaseException:
            if not config["stubborn"]:
                raise


def as_in_a_notebook(function):
    """A closure of a module that no worker can import, as what is typed into a notebook is."""

    def inner(config, trial):
        return function(config, trial)

    inner.__module__ = "__main__"
    return inner


def keeps(config, trial):
    """Keeps a state, if it may, and writes down every epoch that it really trains."""
    total = trial.state["total"] if trial.state else 0
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        with (Path(config["folder"]) / "executed.txt").open("a") as executed:
            executed.write(f"{trial.number}.{epoch} ")
        total += epoch
        trial.report(epoch=epoch, score=total, state={"total": total} if config["with_state"] else None)


def hangs(config, trial):
    """Reports an epoch; then one config waits for ever, whatever Exception comes."""
    trial.report(epoch=1, score=0.5)
    while config["hangs"]:
        with contextlib.suppress(Exception):
            time.sleep(0.02)


# A user's file, with a neighbour that imports torch only when it is called; it draws from every generator.
USERS_FILE = """
    from pathlib import Path
    import neighbour

    HERE = Path(__file__).parent.joinpath("sizes.txt").read_text()

    def train(config, trial):
        for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
            draws = neighbour.draws()
            score = config["x"] + draws["drawn"]
            more = {"here": len(HERE), "extra": config["extra"], "predictions": [[score.item()] * 2] * 3}
            trial.report(epoch=epoch, score=score, **more, **draws)
"""
NEIGHBOUR = """
    import os, random
    import numpy as np

    def draws():
        import torch
        return {
            "drawn": torch.rand(1), "normal": np.random.rand(), "python": random.random(),
            "threads": torch.get_num_threads(), "folder": len(os.getcwd()), "is_here": os.path.exists("here.txt"),
        }
"""


def write_users_file(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(textwrap.dedent(USERS_FILE))
    (folder / "neighbour.py").write_text(textwrap.dedent(NEIGHBOUR))
    (folder / "sizes.txt").write_text("1, 2")
    return f"{folder / 'mine.py'}:train"


# -- helpers ----------------------------------------------------------------------------------------------------------


def make_sweep(trainable, space, **more):
    keywords = {"metric": "score", "mode": "max", "max_epochs": EPOCHS, "resources": {"max_concurrent": 1}}
    keywords["search"] = {"strategy": "random", "trials": 2}
    return tuner.Sweep(**(keywords | {"trainable": trainable, "space": space} | more))


def facts(results):
    """Everything that a sweep found, but not when and where."""
    rows = results.trials.drop(columns=["worker", "started_at", "duration_s", "attempts"])
    epochs = results.epochs.drop(columns=["reported_at"])
    timed = [name for name in [*rows, *epochs] if name.endswith("epoch_s")]
    return (
        rows.drop(columns=timed, errors="ignore").astype(object).to_dict("records"),
        epochs.drop(columns=timed, errors="ignore").astype(object).to_dict("records"),
    )


def same(first, second):
    """Compare as text: bit-identical numbers are written alike, and NaN is like NaN."""
    return repr(facts(first)) == repr(facts(second))


def make_driver(folder: Path, sweep, **parts) -> Driver:
    """A driver with its journal, as tuner.run makes it; any part may be another."""
    folder.mkdir()
    frozen, row = _freeze(sweep, folder)
    journal = Journal(folder / FILE_NAME)
    journal.append(row)
    keywords = {"strategy": make_strategy(frozen), "rules": make_rules(frozen), "journal": journal} | parts
    return Driver(frozen, folder, fold(journal.events()), **keywords)


class Broken(Exception):
    """What a test breaks something with."""


class BreaksLater:
    """A strategy that fails."""

    name, total, note = "breaks", None, ""

    def __init__(self, after: int) -> None:
        self.after = after

    def ask(self, history):
        if len(history) >= self.after:
            raise Broken("the strategy is broken")
        return Proposal({"slope": 1.0, "stubborn": False}, "test", "")


# -- the suite --------------------------------------------------------------------------------------------------------


class BackendConformance:
    backend: ClassVar[str]
    with_state: ClassVar[bool] = True
    patience_s: ClassVar[float] = 0.5  # longer than this backend needs until a trainable is called

    def run(self, sweep, storage, **keywords):
        return tuner.run(sweep, storage=storage, backend=self.backend, **keywords)

    def drive(self, driver, train):
        """Run a driver made by make_driver to its end."""
        raise NotImplementedError

    # -- a trainable that does what it should not

    @pytest.fixture(scope="class")
    def badly(self, tmp_path_factory, request):
        points = [{"case": case} for case in _BY_NAME]
        search = {"strategy": "manual", "points": points}
        space = {"case": tuner.Choice(list(_BY_NAME)), "layers": [1, 2]}
        sweep = make_sweep("conformance_backends:bad", space, search=search)
        return self.run(sweep, tmp_path_factory.mktemp("badly"))

    def test_it_tries_every_config_once(self, badly):
        assert list(badly.trials["config.case"]) == list(_BY_NAME)
        assert set(badly.trials["attempts"]) == {1}
        assert badly.status == "completed"

    @pytest.mark.parametrize("case", BAD, ids=lambda case: case.__name__)
    def test_a_bad_trainable_ends_with_its_cause_in_one_sentence(self, badly, case):
        row = badly.trials.set_index("config.case").loc[case.__name__]
        status, cause, sentence, epochs = BAD[case]
        assert (row["status"], row["epochs"]) == (status, epochs)
        assert row["cause"] == cause or (cause is None and row["cause"] != row["cause"])
        if sentence:
            assert re.search(sentence, row["error"]), row["error"]
            assert "\n" not in row["error"]

    def test_the_log_holds_the_output_and_the_traceback(self, badly):
        text = (badly.folder / "logs" / "t0001-1.log").read_text()
        assert "before the end\n" in text and "and this went wrong\n" in text
        assert "Traceback (most recent call last)" in text and "in _raises" in text

    def test_a_dict_that_is_returned_at_the_end_wins_nothing(self, badly):
        row = badly.trials.set_index("config.case").loc["_returns_dict_at_the_end"]
        assert row["best.score"] == row["last.score"] == pytest.approx(0.3)

    def test_what_a_trainable_does_to_its_config_stays_there(self, badly):
        assert all(layers == [1, 2] for layers in badly.trials["config.layers"])
        assert all(record.config["layers"] == [1, 2] for record in badly.history.trials.values())

    # -- silence

    def test_a_trial_that_hangs_is_tried_once_more_and_then_ended(self, tmp_path):
        points = [{"hangs": True}, {"hangs": False}]
        sweep = make_sweep(
            hangs,
            {"hangs": tuner.Choice([True, False])},
            search={"strategy": "manual", "points": points},
            failure={"epoch_timeout_s": self.patience_s},
        )
        results = self.run(sweep, tmp_path)
        hung, fine = results.trials.to_dict("records")
        assert (hung["status"], hung["cause"], hung["attempts"], hung["epochs"]) == ("failed", "timeout", 2, 1)
        assert re.search(r"an epoch must end within .* s \(failure\.epoch_timeout_s\), but got", hung["error"])
        assert (fine["status"], fine["attempts"]) == ("completed", 1)
        # The strategy learns from it, and the exit status tells of it.
        assert results.status == "completed" and verdict(results, strict=False)[0] == 3

    # -- stopping

    def test_a_stopped_trial_makes_room_and_its_worker_goes_on(self, tmp_path):
        points = [
            {"slope": 0.0, "stubborn": False},
            {"slope": 0.0, "stubborn": True},
            {"slope": 1.0, "stubborn": False},
        ]
        sweep = make_sweep(
            as_in_a_notebook(unequal),
            {"slope": tuner.Uniform(0, 1), "stubborn": tuner.Choice([True, False])},
            max_epochs=6,
            search={"strategy": "manual", "points": points},
            stopping={"rules": ["plateau"], "plateau": {"patience": 1, "grace_epochs": 1}},
        )
        trials = self.run(sweep, tmp_path).trials
        assert list(trials["status"]) == ["stopped", "stopped", "completed"]
        # Epoch 1 is grace, so epoch 2 is the first that can be the last; a deaf trial gets no further.
        assert list(trials["epochs"]) == [2, 2, 6]
        assert trials["cause"].isna().all() and trials["error"].isna().all()
        assert trials["worker"].nunique() == 1

    # -- the same everywhere

    def test_the_same_sweep_has_the_same_results_as_in_this_process(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "here.txt").touch()
        sweep = make_sweep(
            write_users_file(tmp_path / "code"),
            {"x": tuner.Uniform(0, 1)},
            defaults={"extra": 7},
            search={"strategy": "random", "trials": 3, "repeats": 2, "points": [{"x": 0.25}]},
            resources={},
        )
        results = self.run(sweep, tmp_path)
        assert same(results, tuner.run(sweep, storage=tmp_path, backend="inline"))
        assert set(results.trials["status"]) == {"completed"}
        # Points come first; every config is repeated, with a seed a repeat; [defaults] lie under it.
        assert list(results.trials["config.x"][:2]) == [0.25, 0.25]
        assert results.trials["config.x"].nunique() == 3
        assert list(results.trials["repeat"]) == [1, 2] * 3
        assert results.trials.groupby("repeat")["seed"].nunique().tolist() == [1, 1]
        assert set(results.epochs["extra"]) == {7}
        # The same seed draws the same numbers, also where torch is imported late.
        assert results.epochs["drawn"].nunique() == results.epochs["python"].nunique() == 2 * EPOCHS
        # One core a trial is one torch thread; relative paths mean what they mean here.
        assert set(results.epochs["threads"]) == {1}
        assert set(results.epochs["is_here"]) == {1} and set(results.epochs["here"]) == {4}
        # Predictions are kept, an array an epoch.
        with np.load(results.folder / "predictions" / "t0001.npz", allow_pickle=False) as kept:
            assert [kept[name].shape for name in kept] == [(3, 2)] * EPOCHS
            assert kept["2"][0, 0] == results.epochs["score"][1]

    # -- interrupted

    def test_an_interrupted_sweep_goes_on_where_it_was(self, tmp_path):
        space = {"folder": str(tmp_path), "x": tuner.Uniform(0, 1), "with_state": self.with_state}

        def strike(event):
            if (event.kind, event.trial, event.epoch) == ("epoch", "t0002", 2):
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Interrupted, match="tuner resume") as caught:
            self.run(make_sweep(keeps, space), tmp_path, name="run", watch=Watch(on_event=strike))
        assert caught.value.exit_status == 143
        left = tuner.load(tmp_path / "run")
        assert left.status == "interrupted" and list(left.trials["status"]) == ["completed", "interrupted"]
        assert left.history.trials["t0002"].status == "interrupted"  # as a row says, not for want of one
        results = tuner.resume(tmp_path / "run", trainable=keeps, trials=3, backend=self.backend)
        # With a state, no epoch is trained twice; without one, the interrupted trial starts over.
        again = [] if self.with_state else [1, 2]
        trained = {1: [1, 2, 3], 2: [1, 2, *again, 3], 3: [1, 2, 3]}
        expected = [f"{number}.{epoch}" for number, epochs in trained.items() for epoch in epochs]
        assert (tmp_path / "executed.txt").read_text().split() == expected
        assert list(results.trials["status"]) == ["completed"] * 3 and list(results.trials["attempts"]) == [1, 2, 1]
        assert list(results.epochs["score"]) == [1, 3, 6] * 3
        assert results.status == "completed"

    # -- what goes wrong in the driver

    def test_an_error_in_a_strategy_comes_out_as_it_is(self, tmp_path):
        driver = make_driver(tmp_path / "run", make_sweep(unequal, {"slope": 0}), strategy=BreaksLater(0))
        with pytest.raises(Broken, match="the strategy is broken"):
            self.drive(driver, unequal)

    def test_a_journal_that_cannot_be_written_ends_the_sweep(self, tmp_path):
        sweep = make_sweep(unequal, {"slope": 0.5, "stubborn": True}, max_epochs=50)

        def break_it(event):
            if event.kind == "epoch" and event.epoch == 2:
                driver.journal._connection.execute("PRAGMA query_only = ON")  # what a full disk is like

        driver = make_driver(tmp_path / "run", sweep, on_event=break_it)
        with pytest.raises(tuner.RunError, match="readonly"):
            self.drive(driver, unequal)
        # The trainable swallows what is raised in it; yet nothing is blamed on it.
        assert driver.history.trials["t0001"].status == "running"
        assert max(driver.history.trials["t0001"].epochs) == 2

    @pytest.mark.parametrize("resources", [{"cpus_per_trial": 64}, {"gpus_per_trial": 8}])
    def test_what_can_never_be_had_is_an_error_at_once(self, tmp_path, resources):
        sweep = make_sweep(unequal, {"slope": 0}, resources=resources)
        with pytest.raises(tuner.TunerError, match="per_trial"):
            self.run(sweep, tmp_path)
        assert not any(tmp_path.iterdir())
