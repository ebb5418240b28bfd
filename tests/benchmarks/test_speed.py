"""The speed benchmark: its statistics are right, its work is equal, and the page says what the JSON says."""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks/ is no installed package

from benchmarks.speed import figures, images, long, machine, many, memory, processes, startup, sweeps, trivial, writing
from benchmarks.speed.claims import NO_GPU, NOT_MEASURED, claims
from benchmarks.speed.names import AUTO, FP32, OPTUNA, RAY, SKORCH, TWO
from benchmarks.speed.statistics import better, difference, left_out, marginal, median, order, ratio, window_seconds
from tuner.spec import load_sweep

ROOT = Path(__file__).parents[2]


# --- statistics ---


def test_a_ratio_is_of_rounds_in_which_both_ran():
    # The second round was slow for both, the third was not run by one: neither moves the ratio.
    assert ratio([10.0, 40.0, None, 9.0], [5.0, 20.0, 1.0, 3.0]) == 2.0
    assert ratio([1.0, None], [None, 1.0]) is None
    assert median([3.0, None, 1.0]) == 2.0 and median([None]) is None


def test_the_better_is_that_of_the_lower_median():
    seconds = {"a": [1.0, 9.0, 9.0], "b": [5.0, 5.0, None], "c": [None]}
    assert better(seconds, ["a", "b", "c", "unknown"]) == "b"
    assert better(seconds, ["c"]) is None


def test_every_round_begins_with_another_and_none_is_left_out():
    names = ["a", "b", "c", "d"]
    rounds = [order(names, number) for number in range(4)]
    assert all(sorted(one) == names for one in rounds)
    assert rounds[0] == names and rounds[1] == ["a", "d", "c", "b"] and rounds[2] == ["c", "d", "a", "b"]
    # Who runs right after whom changes, too: what one leaves behind in caches does not always meet the same one.
    assert len({(a, b) for one in rounds for a, b in itertools.pairwise(one)}) > 6
    assert order([], 1) == []


def test_what_was_clearly_slower_than_its_like_is_not_run_again():
    first = {"threads": 10.0, "processes": 11.6, "ours": 10.0, "ours too": 11.4, "alone": 99.0, "failed": None}
    groups = [("threads", "processes"), ("ours", "ours too"), ("failed", "unknown")]
    assert left_out(first, groups) == ["processes"]


def test_a_marginal_cost_has_no_start_in_it():
    assert marginal([8.0, 9.0, None], [13.0, 14.5, 1.0], 500) == pytest.approx([0.010, 0.011])


def test_a_difference_is_paired_by_config():
    mean, error = difference({"a": 0.8, "b": 0.6, "only ours": 0.1}, {"a": 0.7, "b": 0.6})
    assert mean == pytest.approx(0.05) and error == pytest.approx(0.05)
    assert math.isnan(difference({"a": 1.0}, {"a": 1.0})[1])


def test_windows_leave_the_warm_up_out():
    # Ten slow trials, then one a second, and the last ten two seconds each.
    ends = [9.0 * n for n in range(10)] + [90.0 + n for n in range(30)] + [121.0 + 2 * n for n in range(10)]
    assert window_seconds(ends, warm_up=10, size=10) == (10.0, 20.0)


# --- work ---


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    images.write_synthetic(folder, train=600, test=40)
    return images.Images(folder, synthetic=True)


def test_a_sweep_tries_the_configs_that_its_peers_are_told(made, tmp_path):
    work = sweeps.Work(400, 100, 2, sweeps.GRID, ())
    task = sweeps.task_of(work, made)
    (tmp_path / "sweep.toml").write_text(sweeps.sweep_text(task, "fp32"))
    sweep = load_sweep(tmp_path / "sweep.toml")
    assert (sweep.max_epochs, sweep.search.trials, len(task["configs"])) == (2, 24, 24)
    keys = {sweeps.config_key(config, task["grid"]) for config in task["configs"]}
    assert len(keys) == 24 and "learning_rate=0.015 momentum=0.9" in keys


def test_peers_train_on_the_rows_that_the_sweep_trains_on(made):
    from trainables.data import load
    from trainables.data.options import parse
    from trainables.data.torchvision_sets import open_set

    table = images.data_table(made, 400, 100)
    train, val = images.rows(made, 400, 100)
    data, pixels = load(table, images.SEED), open_set(parse(table, ("fashion_mnist",))).pool.strata
    assert not set(train) & set(val)
    assert data.train.y.tolist() == pixels[train].tolist() and data.val.y.tolist() == pixels[val].tolist()


def test_images_are_made_where_there_are_none(tmp_path, made):
    assert images.find(made.root, tmp_path / "unused") == images.Images(made.root, synthetic=False)
    assert "synthetic" in made.told


def test_ranges_take_the_grids_place_in_a_sweep_of_more_trials(made, tmp_path):
    task = sweeps.task_of(sweeps.Work(400, 100, 1, sweeps.GRID, ()), made)
    (tmp_path / "sweep.toml").write_text(long.continuous(sweeps.sweep_text(task, "fp32", 200, "random")))
    sweep = load_sweep(tmp_path / "sweep.toml")
    assert sweep.search.trials == 200 and not sweep.space.contains({"learning_rate": 0.2, "momentum": 0.5})
    assert sweep.space.contains({"learning_rate": 0.0123, "momentum": 0.456})


def test_a_process_that_fails_is_told_with_its_words(tmp_path):
    with pytest.raises(processes.Failed, match="no such luck"):
        processes.timed([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path)


def test_a_process_that_takes_too_long_is_killed_with_its_children(tmp_path):
    # It starts a child of its own, which would go on for a minute.
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    process = processes.start([sys.executable, "-c", code], tmp_path)
    while not (family := processes.descendants(process.pid)):
        time.sleep(0.02)
    with pytest.raises(processes.Failed, match="timed out"):
        processes.finish(process, tmp_path, most_s=0.1)
    assert process.poll() is not None
    over = time.monotonic() + 10  # a kill takes effect a moment after it is sent
    while (alive := [pid for pid in family if processes.title(pid)]) and time.monotonic() < over:
        time.sleep(0.02)
    assert not alive


def test_what_sets_threads_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere")
    assert not {"OMP_NUM_THREADS", "RAY_ADDRESS"} & {*processes.environment()}


def test_memory_is_that_of_a_living_process():
    held = processes.memory(os.getpid())
    assert 0 < held["uss"] <= held["pss"] <= held["rss"]
    assert processes.memory(2**22 + 1) == {} and processes.cpu_s(2**22 + 1) is None


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("ray::Attempts.train", "worker"),
        ("ray::IDLE", "worker"),
        ("ray::DashboardAgent", "other"),
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=/y", "raylet"),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/y/raylet/raylet/z", "other"),
    ],
)
def test_processes_are_told_apart(title, kind):
    assert memory.kind_of(title) == kind


def test_a_made_data_set_is_read_as_cifar(tmp_path):
    from trainables.data import load

    memory.write_cifar(tmp_path, 20)
    data = load({"name": "cifar10", "root": str(tmp_path)}, 1)
    assert data.train.x.shape[1:] == (3, 32, 32) and len(data.train) + len(data.val) == 20 * memory.FILES


# --- the page ---


def every_part():
    """Return what all parts but those of a GPU would have measured."""
    accuracies = {name: {"a": 0.8, "b": 0.7} for name in (AUTO, FP32, RAY, *OPTUNA, TWO)}
    seconds = {
        AUTO: [10.0, 11.0],
        FP32: [20.0, 22.0],
        RAY: [60.0, 50.0],
        OPTUNA[0]: [9.0, 9.0],
        OPTUNA[1]: [12.0, None],
    }
    sweep = sweeps.figures(sweeps.SHORT, {**seconds, TWO: [15.0, None]}, accuracies)
    told = {"n": 2, "data": "Fashion-MNIST", "missing": {SKORCH: "skorch is not installed"}}
    sweep = {**told, **sweep, "precision_chosen": {AUTO: "bf16"}}
    looks = {name: {"worker": w, "raylet": r} for name, w, r in (("3 trials, small data", 900, 100),
             ("1 trial, large data", 300, 1100), ("3 trials, large data", 930, 1170))}  # fmt: skip
    samples = [{"at": n, "ended": 100 * n, "uss": 1e8 + 3e6 * n, "rss": 2e8, "cpu_s": n / 2} for n in range(61)]
    rays = dict.fromkeys(("plain", "reuse"), ((2, 1), (6, 1)))
    ends = [n / 100 for n in range(3000)] + [30 + n / 50 for n in range(3000)]
    entry = {"lone_trial_s": 1.0, "beside_another_s": 1.2, "sweep_s": 110.0, "from_first_trial_s": 104.0}
    stages = {"run_folder_s": 1.0, "first_attempt_s": 4.0, "first_epoch_s": 6.0, "end_s": 9.0}
    times = {"few": [1.0], "many": [6.0], "one report": [1.0], "fifty reports": [5.0]}
    times |= {f"ray {kind} {much}": [s] for kind in rays for much, s in (("few", 5.0), ("many", 9.0))}
    step = {"eager loop": [30.0] * 9, "tuner, fp32": [20.0] * 9, "tuner, bf16": [10.0] * 9}
    parts = {
        "short": sweep,
        "medium": sweep,
        "long": long.summary([entry], 200, "Fashion-MNIST"),
        "trivial": trivial.summary(times, trivial.OURS, rays),
        "many": {"n": 1, "trials": 6000, "reports": 5, "completed": 6000, "sweep_s": 99.0, "journal_bytes_a_trial": 900}
        | many.summary(ends, samples, 1000),
        "step": {"n": 9, "batch_size": 64, "step_ms": step, "step_ms_median": {k: v[0] for k, v in step.items()},
                 "times_faster": {k: 30.0 / v[0] for k, v in step.items()}},
        "memory": memory.summary(looks, 3, 1000),
        "startup": {**startup.summary([stages]), "timing": None},
    }  # fmt: skip
    facts = machine.facts()
    facts["hardware"] |= {"bf16": "amx", "gpu": "none"}
    return {
        name: {
            **facts,
            "part": name,
            "command": f"python -m benchmarks.speed {name}",
            "quick": False,
            "minutes": 1.0,
            **part,
        }
        for name, part in parts.items()
    }


def by_what(found):
    return {claim.what: claim for claim in claims(found)}


def test_the_page_is_what_its_json_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = writing.read()
    assert writing.PAGE.read_text() == writing.page(found), "run: python -m benchmarks.speed page"
    drawn = {path.stem for path in writing.FIGURES.glob("*.png")}
    assert drawn == {part for part in found if part in figures.DRAWN}
    assert not any(part["quick"] for name, part in found.items() if name != "lanes"), "a quick look measures nothing"


def test_what_was_not_measured_is_said():
    page = writing.page({})
    lines = claims({})
    assert len(lines) == 18 and {claim.holds for claim in lines} == {None}
    assert {claim.measured for claim in lines} == {NOT_MEASURED, NO_GPU}
    assert "there was no GPU" in page.partition("### On a GPU")[2]
    for part in sweeps_and_others():
        assert f"`python -m benchmarks.speed {part} page` measures it" in page


def sweeps_and_others():
    return [part for part in writing.SECTIONS if part != "lanes"]


def test_a_missing_competitor_is_said_with_its_reason():
    found = every_part()
    for name in OPTUNA:
        for column in ("seconds", "medians"):
            del found["medium"][column][name]
        found["medium"]["missing"][name] = "optuna is not installed"
    measured = [claim.measured for claim in claims(found) if "medium" in claim.what and "eager loop" in claim.what]
    assert measured == ["not measured: optuna is not installed"]
    assert "skorch is not installed" in writing.page(found)


def test_claims_follow_the_figures():
    lines = by_what(every_part())
    holds = {what: claim.holds for what, claim in lines.items()}
    # Ray took 6.0 and 4.5 times as long, Optuna's better way 0.9 and 0.8 times.
    assert holds["short: 24 trials x 2 epochs, 1,280 images, against naive Ray Tune"] is True
    assert holds["short: 24 trials x 2 epochs, 1,280 images, against Optuna n_jobs=2, eager loop"] is False
    assert holds["long: 200 trials, against cores x the lone trial's speed"] is False
    assert holds["marginal cost of a trivial trial (1 report)"] is True
    assert holds["training step at 28x28 on one core, bf16, against the eager loop"] is True
    assert holds["10,000 trivial trials x 5 reports: the last thousand against the first"] is False
    assert holds["10,000 trivial trials x 5 reports: the driver's memory"] is True
    assert holds["8 concurrent trials on one data set of 1 GB"] is True
    assert "0.909" in lines["long: 200 trials, against cores x the lone trial's speed"].measured


def test_without_amx_the_bf16_step_is_no_claim():
    found = every_part()
    found["step"]["hardware"] = {**found["step"]["hardware"], "bf16": "none"}
    claim = by_what(found)["training step at 28x28 on one core, bf16, against the eager loop"]
    assert claim.holds is None and "no AMX" in claim.measured


def test_a_cost_that_cannot_be_told_from_nothing_is_not_told_as_a_number():
    found = every_part()
    found["trivial"]["trial_ms_median"]["Ray Tune, reuse"] = -81.3
    found["trivial"]["trial_ms"]["Ray Tune, reuse"] = [-261.5, -81.3, 24.4]
    row = next(line for line in writing.page(found).splitlines() if line.startswith("| Ray Tune, reuse |"))
    assert row == "| Ray Tune, reuse | lost in the noise | -261.5, -81.3, 24.4 |"
    assert "lost in the noise" in by_what(found)["marginal cost of a trivial trial (1 report)"].measured


def lanes(prefix):
    row = {"lanes": 32, "lone_epochs_per_s": 1.0, "lane_epochs_per_s": 11.0}
    side = {"processes": 8, "lanes": 32, "process_epochs_per_s": 5.0, "lane_epochs_per_s": 11.0}
    loop = {"loader_s": 9.0, "lone_s": 1.0}
    about = {"hardware": "a GPU", "torch": "2", "python": "3", "n": 5, "batch": 128}
    found = {
        "lanes": {"28x28": {"rows": [{**row, "ratio": 11.0}]}, "32x32x3": {"rows": [{**row, "ratio": 9.0}]}},
        "processes": {shape: {**side, "ratio": 3.5} for shape in ("28x28", "32x32x3")},
        "loader": {shape: {**loop, "ratio": 9.0} for shape in ("28x28", "32x32x3")},
    }
    return {f"{prefix}_{part}": {**about, "found": figures} for part, figures in found.items()}


def test_of_lanes_the_slower_shape_counts():
    lines = [claim for claim in claims({"lanes": lanes("gpu")}) if "GPU" in claim.what]
    assert [claim.holds for claim in lines] == [False, True, True]
    assert [claim.measured for claim in lines] == ["9.0 times", "3.5 times", "9.0 times"]


def test_lanes_on_a_cpu_say_nothing_of_a_gpu():
    found = {"lanes": lanes("cpu")}
    assert {claim.measured for claim in claims(found) if "GPU" in claim.what} == {NO_GPU}
    page = writing.page(found)
    assert "| 28x28 | 32 | 1.00 | 11.00 | 11.00 |" in page.partition("### One CPU core")[2].partition("### On a GPU")[0]
    assert "there was no GPU" in page.partition("### On a GPU")[2]
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables(page))


def test_the_data_is_counted_by_what_it_adds():
    figures_ = every_part()["memory"]
    # 1,100 bytes more than with small data, for 1,000 bytes of it; of which 30 in the workers.
    assert figures_["data_held_times"] == 1.1
    assert figures_["data_held_times_by_kind"] == {"raylet": 1.07, "worker": 0.03}
    assert figures_["bytes_an_extra_trial"] == 350


def test_growth_is_a_line_through_the_samples():
    told = every_part()["many"]
    assert told["growth_bytes_a_trial"] == 30_000 and told["slowing"] == pytest.approx(1.0)
    assert set(told["driver_cpu_s"]) == {5.0}


def test_every_part_is_on_the_page_and_drawn(tmp_path):
    found = every_part()
    page = writing.page(found)
    assert NOT_MEASURED.capitalize() not in page.partition("## Lanes")[0].partition("## Short sweep")[2]
    assert {path.name for path in figures.draw_all(found, tmp_path)} == {f"{part}.png" for part in sweeps_and_others()}
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables(page))


def tables(page):
    return [block for block in page.split("\n\n") if block.startswith("|")]
