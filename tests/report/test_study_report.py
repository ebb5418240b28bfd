"""What a report says of a study: baseline, refinement, cross-validation, and the test split."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from made_runs import Made, make_run

from tuner.report import write_report
from tuner.report.folds import folds
from tuner.results import load

SPACE = {"lr": {"loguniform": [1e-4, 1.0]}}
CONFIGS = {1: {"lr": 0.1}, 2: {"lr": 0.01}, 3: {"lr": 0.001}}
DEFAULTS = {"lr": 0.5}
# What each config scores in the folds 0, 1, ...: 1 and 2 are alike, 3 is far behind.
SCORES = {1: [0.80, 0.84, 0.81, 0.83, 0.82], 2: [0.81, 0.83, 0.83, 0.84, 0.83], 3: [0.10, 0.14, 0.11, 0.13, 0.12]}
CHANGE = {"name": "lr", "before": "0.0001 to 1", "after": "0.001 to 1", "why": "the best 2 of 3 lie there"}


def searched():
    baseline = [Made(DEFAULTS, [0.7, value], stage="baseline", proposal=0) for value in (0.70, 0.72, 0.74)]
    search = [Made(CONFIGS[n], [0.6, 0.9 - n / 100], proposal=n) for n in (1, 2)]
    return [*baseline, *search, Made(CONFIGS[3], [0.6, 0.8], proposal=3, stage="refine")]


def validated(scores=SCORES):
    """Return a trial a (config, fold); the config that is far behind is dropped after the first three folds."""
    return [
        Made(CONFIGS[n], [values[fold]], stage="cross_validate", proposal=n, fold=fold)
        for fold in range(5)
        for n, values in scores.items()
        if fold < 3 or n != 3
    ]


def told(tmp_path, made, notes=(), final=None):
    """Return (Markdown, folder, the lines that the command prints) of a study of these trials."""
    notes = [{"cross_validate": {"configs": {str(n): config for n, config in CONFIGS.items()}}}, *notes]
    tables = {"study": {"cv_seeds": 1, "level": 0.05}, "defaults": DEFAULTS}
    folder = make_run(tmp_path / "runs/one", made, space=SPACE, notes=notes, tables=tables)
    if final:
        (folder / "final").mkdir()
        (folder / "final/metrics.json").write_text(json.dumps(final))
    written = write_report(load(folder))
    return (folder / "report.md").read_text(), folder, written.lines


def test_the_tie_set_is_of_configs_and_who_was_dropped_is_said(tmp_path):
    text, folder, lines = told(tmp_path, [*searched(), *validated()])
    # t0007, t0008 and t0009 are the first folds of the configs 1, 2 and 3.
    assert "Cross-validated on 5 (seed, fold) blocks: t0008's config has the best mean." in text
    assert "The configs of t0007 and t0008 cannot be told apart: they tie." in text
    assert "Dropped as clearly worse: t0009 (look 1 of 2)." in text
    assert "their scores are still search-biased" in text
    rows = pd.read_csv(folder / "tables/cross_validation.csv")
    assert rows["stands"].tolist() == ["in the tie", "in the tie", "dropped at look 1"]
    assert rows["mean"].tolist()[:2] == pytest.approx([0.828, 0.82])
    assert rows["probability of being best"].sum() == pytest.approx(1.0)
    assert rows["config"].tolist() == ["lr=0.01", "lr=0.1", "lr=0.001"]
    # The folds decide, not the search, whose best is config 1.
    assert lines[0] == "best: t0008, lr=0.01"
    assert "over the folds another config has the best mean (t0008)" in text
    assert "val_accuracy, cross-validated: 0.8280 (t0008's config, mean over 5 (seed, fold) blocks" in text


@pytest.mark.usefixtures("undrawn")
def test_one_config_that_is_left_has_won(tmp_path):
    far = {1: [0.20, 0.24, 0.21, 0.23, 0.22], 2: SCORES[2], 3: SCORES[3]}
    text, folder, _ = told(tmp_path, [*searched(), *validated(far)])
    assert "Every other config is worse." in text and "cannot be told apart: they tie" not in text
    assert "won" in pd.read_csv(folder / "tables/cross_validation.csv")["stands"].tolist()


@pytest.mark.usefixtures("undrawn")
def test_an_open_race_leaves_the_search_its_best(tmp_path):
    text, _, lines = told(tmp_path, [*searched(), *validated()[:-1]])
    assert "The cross-validation is not over: 1 of 2 looks at its folds were taken." in text
    assert lines[0] == "best: t0004, lr=0.1"


@pytest.mark.usefixtures("undrawn")
def test_folds_stand_after_what_was_measured_on_the_validation_split(tmp_path):
    made = [*searched(), *validated({1: [0.99] * 5, 2: [0.98] * 5})]
    text, _, _ = told(tmp_path, made)
    listed = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| t0") and "completed" in line]
    assert listed.index("cross_validate") == len(searched())
    assert "Folds and final trainings are measured on other samples" in text


@pytest.mark.usefixtures("undrawn")
def test_the_noise_is_that_of_the_baselines_seeds(tmp_path):
    text, _, lines = told(tmp_path, searched())
    assert "Noise: over the baseline's 3 seeds val_accuracy has a standard deviation of 0.02000" in text
    assert lines[2] == "against the baseline: 0.1700 (better than its 0.7200 on validation (t0001, 3 trials))"
    assert "Not cross-validated" in text


@pytest.mark.usefixtures("undrawn")
def test_refinement_is_a_diff_with_reasons(tmp_path):
    note = {"refine": {"round": 1, "space": SPACE, "trials": 1, "after": 2, "changes": [CHANGE]}}
    text, _, _ = told(tmp_path, searched(), [note])
    assert "What refinement changed" in text
    assert "| 1 | lr | 0.0001 to 1 | 0.001 to 1 | the best 2 of 3 lie there |" in text
    unchanged, _, _ = told(tmp_path / "other", searched(), [{"refine": {"round": 1, "changes": []}}])
    assert "Refinement left the space as it was." in unchanged


DIFFERENCE = {"difference": 0.031, "low": 0.012, "high": 0.05, "level": 0.95}


def after_the_test(tmp_path, difference=DIFFERENCE, winner=2, openings=1):
    made = [*searched(), *validated(), Made(CONFIGS.get(winner, DEFAULTS), [0.9], stage="final", proposal=winner)]
    scores = {"winner": winner, "samples": 200, "scores": {}}
    notes = [{"test_opened": n + 1} for n in range(openings)] + [{"test_scores": scores}]
    final = {"trial": f"t{len(made):04d}", "n_test": 200, "test": {"test_accuracy": 0.881},
             "baseline": {"test_accuracy": 0.85 if winner else 0.881}, "difference": difference}  # fmt: skip
    return told(tmp_path, made, notes, final)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.012, 0.05, "better; 95% paired interval 0.01200 to 0.05000"),
        (-0.012, 0.05, "too close to call; 95% paired interval -0.01200 to 0.05000"),
        (-0.05, -0.012, "worse; 95% paired interval -0.05000 to -0.01200"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_the_winner_stands_against_the_baseline_on_test(tmp_path, low, high, says):
    text, _, lines = after_the_test(tmp_path, {**DIFFERENCE, "low": low, "high": high})
    assert f"against the baseline, on test: +0.03100 ({says}, on the same test samples)" in text
    assert lines[1] == "test accuracy: 0.8810 (on 200 samples never seen; the baseline has 0.8500 there)"
    # What was retrained is the answer: the config that is shown is that which was tested.
    assert lines[0].startswith("best: t0020, lr=0.01") and "(t0020, retrained)" in text


@pytest.mark.usefixtures("undrawn")
def test_a_winner_that_is_the_baseline_is_said(tmp_path):
    text, _, lines = after_the_test(tmp_path, difference=None, winner=0)
    assert lines[0].endswith("lr=0.5") and "the winner is the baseline" in lines[1]
    assert "against the baseline: 0.000 (the baseline's config is the winner)" in text
    assert "| parameter | best (the baseline) | best of the search |" in text


@pytest.mark.usefixtures("undrawn")
def test_how_often_the_test_split_was_opened_is_said(tmp_path):
    assert "The test split was opened once" in after_the_test(tmp_path / "once")[0]
    text = after_the_test(tmp_path / "twice", openings=2)[0]
    assert "The test split was opened 2 times, so its score is no longer that of data never seen" in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_folds_has_none(tmp_path):
    assert folds(load(make_run(tmp_path / "runs/one", searched()[3:5])), 0) is None
