"""search.from and runs among search.points: what an earlier run tells a sweep."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tomllib
from pathlib import Path

import pytest

import tuner
from tuner.backends.stage import known_before
from tuner.cli.main import run_command
from tuner.drive import Watch
from tuner.errors import Interrupted, SweepError, UsageError
from tuner.journal import read, read_history
from tuner.learnt import sentence
from tuner.plan import make_plan
from tuner.results import load
from tuner.spec import Sweep, load_sweep
from tuner.spec.tables import SearchSpec
from tuner.warm_start import learn

USER = """
def train(config, trial):
    if config["x"] > 0.9:
        raise ValueError("too much")
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        score = (config["x"] - 0.3) ** 2 + config.get("y", 0.0) + 0.1 / epoch
        trial.report(epoch=epoch, score=score, other=config["x"])

DEFAULTS = {"y": 0.0}
"""
HEAD = '[sweep]\ntrainable = "user.py:train"\nmetric = "score"\nmode = "min"\nmax_epochs = 2\n'
SPACE = "[space]\nx = { uniform = [0.0, 1.0] }\n"
POINTS = "points = [{ x = 0.1 }, { x = 0.2 }, { x = 0.4 }, { x = 0.95 }]\n"
MANUAL = '[search]\nstrategy = "manual"\n' + POINTS


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a trainable and a run of four configs, one of which fails; it is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user.py").write_text(USER)
    run("a", HEAD + SPACE + MANUAL)
    return tmp_path


def write(name, text):
    Path(f"{name}.toml").write_text(text)
    return f"{name}.toml"


def run(name, text, *overrides, **keywords):
    sweep = load_sweep(write(name, text), overrides)
    return tuner.run(sweep, storage="runs", name=name, backend="inline", **keywords)


def search(**keys):
    lines = {"strategy": "gp", "from": ["runs/a"], "trials": 3, **keys}
    return "[search]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def entry_of(text, *overrides):
    (entry,) = learn(load_sweep(write("new", text), overrides))
    return entry


def refused(text, *overrides):
    with pytest.raises(SweepError) as caught:
        learn(load_sweep(write("new", text), overrides))
    return str(caught.value)


# -- the key -----------------------------------------------------------------------------------------------------------


def test_from_is_a_key_like_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "here").mkdir()
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "journal.sqlite").touch()
    (tmp_path / "named").mkdir()  # no run
    listed = ["../a", "/b", "s3://bucket/c", "named", "latest", "beside"]
    file = tmp_path / "sweep.toml"
    file.write_text(HEAD + SPACE + search(**{"from": listed}))
    monkeypatch.chdir(tmp_path / "here")
    read = load_sweep(file)
    # Paths are seen from the file; names in ./runs, and URIs, are no paths.
    found = (str(tmp_path.parent / "a"), "/b", "s3://bucket/c", "named", "latest", str(tmp_path / "beside"))
    assert read.search.from_ == found
    # It is frozen as it is written, and read back.
    (tmp_path / "frozen.toml").write_text(read.to_toml())
    assert "from = [" in read.to_toml() and load_sweep(tmp_path / "frozen.toml") == read
    assert load_sweep(file, ["search.from=['../a']"]).search.from_ == (str(tmp_path / "a"),)
    built = Sweep(trainable=print, metric="loss", mode="min", space={"x": 1.0}, search={"from": ["up/a"]})
    assert built.search.from_ == (str(tmp_path / "here" / "up" / "a"),)
    again = Sweep(trainable=print, metric="loss", mode="min", space={"x": 1.0}, search=built.search)
    assert again.search == built.search == SearchSpec.model_validate(built.search.model_dump(by_alias=True))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('from = "runs/a"', 'search.from: must be a list of runs, such as ["runs/a", "s3://bucket/runs/b"], but got'),
        ("from = [1]", "search.from: must be a list of runs"),
        ('from = [""]', "search.from: must be a list of runs"),
        ('from_ = ["runs/a"]', 'search.from_: there is no such key. Did you mean "from"?'),
        ("points = [3]", "search.points: must be a list of configs"),
    ],
)
def test_a_wrong_from_is_a_sentence(tmp_path, line, said):
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "bad.toml").write_text(HEAD + SPACE + f"[search]\n{line}\n")
    with pytest.raises(SweepError) as caught:
        load_sweep(tmp_path / "bad.toml")
    assert said in str(caught.value)


# -- what is told ------------------------------------------------------------------------------------------------------


def test_an_earlier_run_is_told_and_not_tried_again(home, capsys):
    assert run_command(["run", write("b", HEAD + SPACE + search()), "--backend", "inline", "--name", "b"]) == 0
    assert "runs/a: 4 trials told (1 failed)" in " ".join(capsys.readouterr().err.split())
    results = load("runs/b")
    told = known_before(results.history)
    assert [(seen.index, seen.config, seen.state) for seen in told] == [
        (-3, {"x": 0.1}, "done"),
        (-2, {"x": 0.2}, "done"),
        (-1, {"x": 0.4}, "done"),
        (0, {"x": 0.95}, "failed"),
    ]
    # The best epoch's value, as a loss.
    assert told[0].loss == pytest.approx(0.04 + 0.05)
    # Four are as many as the random start has, so the model begins.
    first = results.records()[0]
    assert first.proposal == 1 and first.by == "gp"
    assert first.why == "a Gaussian process over 4 trials, 4 of them from before this search"
    assert all(record.config["x"] < 0.9 for record in results.records())


def test_the_frozen_file_names_the_run_that_was_read(home):
    run("b", HEAD + SPACE + search(**{"from": ["latest"]}))
    assert load("runs/b").sweep["search"]["from"] == [str(home / "runs" / "a")]


def test_configs_that_were_tried_come_no_more(home):
    points = 'points = [{ x = 0.2 }, { x = 0.5 }]\nfrom = ["a"]\n'
    results = run("b", HEAD + SPACE + '[search]\nstrategy = "manual"\n' + points)
    assert [record.config for record in results.records()] == [{"x": 0.5}]


def test_a_point_that_was_tried_is_left_out_and_the_plan_says_so(home):
    sweep = load_sweep(write("b", HEAD + SPACE + search(strategy="random") + "points = [{ x = 0.2 }, { x = 0.5 }]\n"))
    assert "1 of search.points left out" in make_plan(sweep, 1, 0, learnt=learn(sweep)).note
    results = tuner.run(sweep, storage="runs", name="b", backend="inline")
    assert [record.by for record in results.records()] == ["points", "random", "random"]
    assert results.records()[0].config == {"x": 0.5}


def test_a_grid_leaves_out_what_was_tried_and_the_plan_says_so(home, capsys):
    cut = "[space]\nx = { choice = [0.1, 0.2, 0.3, 0.4, 0.5] }\n"
    file = write("b", HEAD + cut + search(strategy="grid", trials=5))
    sweep = load_sweep(file)
    plan = make_plan(sweep, 1, 0, learnt=learn(sweep))
    assert [config["x"] for config in plan.configs] == [0.3, 0.5] and plan.trials == 2
    assert run_command(["plan", file]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "runs/a: 3 trials told, 1 left out: 1 outside of the space (x)" in said
    assert "2 configs" in said and "configs that earlier runs have tried are left out" in said
    # What is left of a small space is run whole by auto, too.
    auto = load_sweep(file, ["search.strategy=auto", "search.trials=2"])
    assert make_plan(auto, 1, 0, learnt=learn(auto)).proposals == 2
    results = tuner.run(auto, storage="runs", name="b", backend="inline")
    assert sorted(record.config["x"] for record in results.records()) == [0.3, 0.5]
    assert {record.by for record in results.records()} == {"grid"}


def test_nothing_left_to_try_is_an_error(home, capsys):
    file = write("b", HEAD + SPACE + '[search]\nfrom = ["runs/a"]\nstrategy = "manual"\n' + POINTS)
    assert run_command(["run", file, "--backend", "inline", "--name", "b"]) == 2
    assert "search.from: the runs in it have tried every config that manual would propose" in capsys.readouterr().err
    assert not (home / "runs" / "b").exists()


def test_a_finished_sweep_that_learnt_is_over(home):
    run("b", HEAD + "[space]\nx = { choice = [0.1, 0.2, 0.3] }\n" + search(strategy="grid", trials=9))
    tuner.resume("runs/b", backend="inline")
    # No driver had a turn since: nothing was left.
    kinds = [event.kind for event in read(home / "runs/b/journal.sqlite")]
    assert kinds.count("session") == 1


def test_a_cut_grid_takes_others_in_place_of_those_tried(home):
    cut = "[space]\nx = { uniform = [0.1, 0.8], points = 8 }\n"
    results = run("b", HEAD + cut + search(strategy="grid", trials=3))
    assert len(results.records()) == 3
    assert not {0.1, 0.2, 0.4} & {record.config["x"] for record in results.records()}


def test_repeats_are_one_observation(home):
    run("twice", HEAD + SPACE + MANUAL + "repeats = 2\n")
    entry = entry_of(HEAD + SPACE + search(**{"from": ["runs/twice"]}))
    assert (entry["told"], entry["failed"], len(entry["observations"])) == (8, 2, 4)


def test_what_is_unfinished_or_lost_is_not_told(home):
    stop = Watch(on_event=lambda event: event.trial == "t0002" and signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        run("b", HEAD + SPACE + MANUAL, watch=stop)
    entry = entry_of(HEAD + SPACE + search(**{"from": ["runs/b"]}))
    assert (entry["told"], entry["left_out"]) == (1, {"unfinished": 1})


def test_another_metric_and_more_epochs(home):
    text = (HEAD + SPACE + search()).replace('"score"', '"other"').replace('"min"', '"max"')
    entry = entry_of(text, "sweep.max_epochs=7")
    # Signed for the new sweep, and what is known of no epoch has failed all the same.
    assert [seen["loss"] for seen in entry["observations"]] == [-0.1, -0.2, -0.4, None]
    assert entry["epochs"] == [2, 7]
    assert (
        "trained for up to 2 epochs, this sweep for 7"
        in make_plan(load_sweep("new.toml"), 1, 0, learnt=[entry]).learnt[0]
    )
    only = (HEAD + SPACE + search()).replace('"score"', '"third"')
    assert entry_of(only)["left_out"] == {"without third": 3}


def test_constraints_are_this_sweeps_own(home):
    # x = 0.4 breaks it here; that earlier run had none.
    asked = (HEAD + SPACE + search()).replace("max_epochs = 2\n", 'max_epochs = 2\nconstraints = ["other < 0.3"]\n')
    assert [seen["state"] for seen in entry_of(asked)["observations"]] == ["done", "done", "failed", "failed"]
    # What it did not record cannot be known to hold.
    unknown = asked.replace("other < 0.3", "latency < 0.3")
    assert entry_of(unknown)["left_out"] == {"without latency": 3}
    # And its own constraints do not bind this one.
    run(
        "strict", (HEAD + SPACE + MANUAL).replace("max_epochs = 2\n", 'max_epochs = 2\nconstraints = ["other < 0.3"]\n')
    )
    told = entry_of(HEAD + SPACE + search(**{"from": ["runs/strict"]}))["observations"]
    assert [seen["state"] for seen in told] == ["done", "done", "done", "failed"]


def test_a_config_that_only_its_own_sweep_refused_is_left_out(home):
    text = '[sweep]\ntrainable = "mlp"\nmax_epochs = 1\n[data]\nname = "wine"\n[space]\nlearning_rate = 0.01\n'
    strict = text.replace("max_epochs = 1\n", 'max_epochs = 1\nconstraints = ["params < 10"]\n')
    run("strict", strict)
    wider = text.replace("0.01", "{ loguniform = [1e-4, 1e-1] }") + '[search]\nfrom = ["strict"]\n'
    assert "1 refused by a constraint of its own sweep" in refused(wider)


# -- another space -----------------------------------------------------------------------------------------------------


def test_a_new_parameter_has_the_value_that_it_was_trained_with(home):
    entry = entry_of(HEAD + SPACE + "y = { uniform = [0.0, 1.0] }\n" + search())
    assert entry["observations"][0]["config"] == {"x": 0.1, "y": 0.0}
    # It lies outside here.
    assert "4 outside of the space (y)" in refused(HEAD + SPACE + "y = { uniform = [0.5, 1.0] }\n" + search())
    # Nobody knows which value it had.
    assert "4 without a value of z" in refused(HEAD + SPACE + "z = { uniform = [0.5, 1.0] }\n" + search())


def test_a_parameter_of_old_must_be_what_the_new_sweep_has(home):
    text = HEAD + SPACE + "y = { choice = [0.0, 0.5] }\n"
    run("both", text + '[search]\nstrategy = "manual"\npoints = [{ x = 0.1 }, { x = 0.2, y = 0.5 }]\n')
    entry = entry_of(HEAD + SPACE + search(**{"from": ["runs/both"]}))
    assert [seen["config"] for seen in entry["observations"]] == [{"x": 0.1}]
    assert entry["left_out"] == {"with another value of y": 1}
    # [defaults] say what the others are trained with now.
    other = entry_of(HEAD + SPACE + "[defaults]\ny = 0.5\n" + search(**{"from": ["runs/both"]}))
    assert [seen["config"] for seen in other["observations"]] == [{"x": 0.2}]


def test_branches_are_filled_in(home):
    choice = SPACE + 'kind = { choice = ["p", "q"], when = { p = { y = { uniform = [0.0, 0.5] } } } }\n'
    # A run that had [defaults] kind = "p" is told with it, and the branch's y.
    run("kinds", HEAD + SPACE + '[defaults]\nkind = "p"\n' + MANUAL)
    told = entry_of(HEAD + choice + search(**{"from": ["runs/kinds"]}))["observations"]
    assert told[0]["config"] == {"x": 0.1, "kind": "p", "y": 0.0}


def test_other_code_and_other_data_tell_nothing(home):
    (home / "user.py").write_text(USER.replace("0.3", "0.4"))
    said = refused(HEAD + SPACE + search())
    assert 'search.from[0]: must have a trial that fits this sweep, but got ("runs/a")' in said
    assert "4 of other code (code/user.py:train)" in said and "Leave it out of search.from." in said
    (home / "user.py").write_text(USER)
    assert "4 of other data (name" in refused(HEAD + SPACE + '[data]\nname = "wine"\n' + search())
    text = (HEAD + SPACE + search()).replace("user.py:train", "user.py:other")
    (home / "user.py").write_text(USER + "\n\nother = train\n")
    assert "4 of another trainable (code/user.py:train)" in refused(text)


def test_a_run_that_is_missing_is_an_error_and_makes_no_folder(home, capsys):
    file = write("b", HEAD + SPACE + search(**{"from": ["runs/a", "runs/nowhere", "runs/no"]}))
    for command in (["plan", file], ["run", file, "--backend", "inline", "--name", "b"]):
        assert run_command(command) == 2
        said = " ".join(capsys.readouterr().err.split())
        # Each run is named, with what is wrong.
        assert 'search.from[1]: must be a run that can be read, but got ("runs/nowhere")' in said
        assert "search.from[2]" in said and "there is none there" in said
    assert not (home / "runs" / "b").exists()


# -- bit for bit -------------------------------------------------------------------------------------------------------


def configs(results):
    return [(record.config, record.by, record.why) for record in results.records()]


def test_a_resume_needs_the_earlier_run_no_more(home):
    text = HEAD + SPACE + search(trials=6, strategy="auto")
    whole = run("whole", text)
    stop = Watch(on_event=lambda event: event.trial == "t0003" and signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        run("b", text, watch=stop)
    shutil.rmtree("runs/a")
    resumed = tuner.resume("runs/b", backend="inline")
    # The same seed proposes the same, whether interrupted or not.
    assert configs(resumed) == configs(whole) and len(resumed.records()) == 6
    # A finished one stays so, and is extended from what it knows.
    assert len(tuner.resume("runs/b", backend="inline").records()) == 6
    assert configs(tuner.resume("runs/b", trials=8, backend="inline"))[:6] == configs(whole)
    with pytest.raises(UsageError, match=r"search.from: what other runs tell is read once"):
        tuner.resume("runs/b", overrides=["search.from=['runs/a']"], backend="inline")


def test_a_run_at_a_uri_tells_and_may_go(home, s3):
    file = write("far", HEAD + SPACE + MANUAL)
    tuner.run(load_sweep(file), storage=f"{s3}/runs", name="a", backend="inline")
    text = HEAD + SPACE + search(**{"from": [f"{s3}/runs/a"]})
    near, far = run("near", HEAD + SPACE + search()), run("b", text)
    assert configs(near) == configs(far)
    (note,) = [note["warm_start"] for note in far.history.notes if "warm_start" in note]
    assert (note["run"], note["told"], note["failed"], note["left_out"]) == (f"{s3}/runs/a", 4, 1, {})
    # Its own driver may be at a URI, and its disk be lost: the journal there has what it learnt.
    storage = f"{s3}/runs"
    tuner.run(load_sweep(write("c", text)), storage=storage, name="c", backend="inline")
    shutil.rmtree(os.environ["TUNER_CACHE"])
    shutil.rmtree("runs/a")
    assert configs(tuner.resume(f"{storage}/c", trials=4, backend="inline"))[:3] == configs(near)
    missing = f"{s3}/runs/none"
    assert f'but got ("{missing}")' in refused(text, f"search.from=['{missing}']")


def test_every_stage_of_a_study_knows_it(home):
    text = HEAD + SPACE + search(trials=4) + "[study]\nstages = ['search', 'refine']\nrefine_trials = 2\n"
    results = tuner.study(load_sweep(write("b", text)), storage="runs", name="b", backend="inline")
    stages = {stage: [r for r in results.records() if r.stage == stage] for stage in ("search", "refine")}
    assert (len(stages["search"]), len(stages["refine"])) == (4, 2)
    assert all("from before this search" in record.why for records in stages.values() for record in records)
    # What the refined space holds of the run is known there, beside the search's trials.
    table = next(note["refine"] for note in results.history.notes if "refine" in note)["space"]["x"]
    low, high = table.get("uniform", (0.0, 1.0))
    inside = [x for x in (0.1, 0.2, 0.4, 0.95, *(r.config["x"] for r in stages["search"])) if low <= x <= high]
    assert f"{len(inside)} of them" in stages["refine"][0].why


def test_the_plan_says_where_earlier_configs_failed(home):
    file = HEAD + SPACE + search()
    entry = entry_of(file)
    (fails,) = [seen for seen in entry["observations"] if seen["loss"] is None]
    more = [{**fails, "config": {"x": x}} for x in (0.9, 0.97)]
    plan = make_plan(load_sweep("new.toml"), 1, 0, learnt=[{**entry, "observations": [*entry["observations"], *more]}])
    assert plan.learnt[1:] == ("earlier runs: x >= 0.9: 3 of 3 failed",)


def test_the_report_says_it(home):
    run("b", HEAD + SPACE + search())
    assert run_command(["report", "runs/b"]) == 0
    assert "Warm start:" in (home / "runs/b/report.md").read_text()
    assert "runs/a: 4 trials told (1 failed)" in (home / "runs/b/report.html").read_text()


# -- points ------------------------------------------------------------------------------------------------------------


def test_a_run_among_the_points_is_its_best_config(home):
    text = HEAD + SPACE + '[search]\nstrategy = "random"\ntrials = 3\npoints = ["runs/a", { x = 0.7 }]\n'
    results = run("b", text)
    # 0.2 and 0.4 are equally far from the best, up to rounding.
    assert results.records()[0].config["x"] in (0.2, 0.4) and results.records()[1].config["x"] == 0.7
    # The frozen file holds the config, not the run.
    assert tomllib.loads((home / "runs/b/sweep.toml").read_text())["search"]["points"][1] == {"x": 0.7}
    shutil.rmtree("runs/a")
    assert len(tuner.resume("runs/b", trials=4, backend="inline").records()) == 4


def test_another_seed_splits_the_data_otherwise_and_that_is_said(home):
    text = '[sweep]\ntrainable = "mlp"\nmax_epochs = 1\n[data]\nname = "wine"\n[space]\nlearning_rate = 0.01\n'
    run("wine", text)
    # A built-in's own default is the value of a parameter that is new in the space.
    wider = text.replace("0.01", "{ loguniform = [1e-4, 1e-1] }\ndropout = { uniform = [0.0, 0.5] }")
    entry = entry_of(wider + '[search]\nfrom = ["wine"]\n', "sweep.seed=3")
    assert entry["observations"][0]["config"] == {"learning_rate": 0.01, "dropout": 0.2} and entry["seed"] == [0, 3]
    assert "its seed was 0, here it is 3" in sentence(entry)
    said = refused(wider.replace("[space]", "limit = 100\n[space]") + '[search]\nfrom = ["wine"]\n')
    assert "1 of other data (limit)" in said


def test_results_in_a_fixed_order_know_the_earlier_run_too(home):
    results = run("b", HEAD + SPACE + search(trials=6, deterministic=True))
    assert all(record.by == "gp" for record in results.records())


@pytest.mark.parametrize(
    ("space", "point", "said"),
    [
        ("[space]\nx = { uniform = [0.5, 1.0] }\n", "runs/a", "search.points[0].x: x must be"),
        (
            SPACE,
            "runs/nowhere",
            'search.points[0]: must be a config, or a run with a best one, but got ("runs/nowhere")',
        ),
        ("[space]\ny = { uniform = [0.0, 1.0] }\n", "runs/a", "search.points[0].x: runs/a has varied x"),
    ],
)
def test_a_best_config_is_checked_like_a_table(home, space, point, said):
    with pytest.raises(SweepError) as caught:
        load_sweep(write("b", HEAD + space + search(**{"from": [], "points": [point]})))
    assert said in str(caught.value)


def test_a_sweep_that_learns_nothing_writes_no_note(home):
    assert not any("warm_start" in note for note in read_history(home / "runs/a/journal.sqlite").notes)


def test_a_job_on_a_cluster_learns_the_same_from_what_is_packed_for_it(home, tmp_path_factory, monkeypatch):
    from tuner.cluster import _pack

    text = HEAD + SPACE + search()
    here = entry_of(text)
    there = tmp_path_factory.mktemp("head")
    _pack(there, load_sweep(write("new", text)))
    shutil.rmtree(home / "runs")
    monkeypatch.chdir(there)
    (entry,) = learn(load_sweep("sweep.toml"))
    assert entry.pop("run") == str(there / "from" / "0" / "a") and here.pop("run").endswith("runs/a")
    assert entry == here and here["told"] == 4


def test_a_run_that_is_missing_is_told_before_anything_is_uploaded(home, tmp_path):
    from tuner.cluster import _pack

    sweep = load_sweep(write("new", HEAD + SPACE + search(**{"from": ["runs/b"]})))
    with pytest.raises(tuner.RunError, match=r"^search\.from\[0\]: .*runs/b: RUN must be"):
        _pack(tmp_path / "package", sweep)


def test_objectives_that_an_earlier_run_reported_are_told(home):
    head = HEAD + 'objectives = { other = "max" }\n'
    (values,) = {tuple(seen.get("values", ())) for seen in entry_of(head + SPACE + search())["observations"][:1]}
    assert values == pytest.approx(((0.1 - 0.3) ** 2 + 0.1 / 2, -0.1))
    sweep = load_sweep(write("b", head + SPACE + search()))
    results = tuner.run(sweep, storage="runs", name="b", backend="inline")
    # Three of the four are done, so the model proposes at once.
    assert re.match(r"a Gaussian process over \d trials", results.records()[0].why)


def test_what_lacks_an_objective_is_left_out(home):
    entry = entry_of(HEAD + 'objectives = { latency = "min" }\n' + SPACE + search())
    assert entry["left_out"] == {"without latency": 3} and entry["told"] == 1  # the one that failed
