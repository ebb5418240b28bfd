"""The report as a whole: its parts, its files, and what it says of runs that lack something."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_runs import Made, failed, make_run
from PIL import Image

from tuner.errors import RunError
from tuner.history import Event
from tuner.journal import FILE_NAME, Journal
from tuner.report import answer, findings, html, write_report
from tuner.report.findings import Missing, attempt
from tuner.report.labels import predictions
from tuner.results import load

PARTS = ["answer", "certainty", "matters", "next", "search", "trials", "failures", "reproduce"]
SPACE = {"lr": {"loguniform": [1e-4, 1.0]}, "kind": {"choice": ["a", "b"]}}


class Page(HTMLParser):
    """What a page holds: its tags in order, its text, its images."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def trials(count=12):
    return [
        Made(
            {"lr": 10 ** -(n % 4), "kind": "ab"[n % 2]}, [0.5, 0.6 + n / 100, 0.55], "stopped" if n % 3 else "completed"
        )
        for n in range(count)
    ]


def report(tmp_path, made, **keywords):
    """Return (page, Markdown, folder) of a run of these trials."""
    folder = make_run(tmp_path / "runs/one", made, **{"space": SPACE, **keywords})
    return written(folder)


def written(folder):
    out = write_report(load(folder)).path
    return Page(out.read_text(encoding="utf-8")), out.with_suffix(".md").read_text(encoding="utf-8"), folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The report of twelve trials; for tests that only read it."""
    return report(tmp_path_factory.mktemp("plain"), trials())


def test_the_parts_come_from_the_answer_to_how_to_reproduce_it(tmp_path):
    page, markdown, folder = report(tmp_path, [*trials(), failed({"lr": 1.0, "kind": "a"})])
    assert [attrs["id"] for attrs in page.all("section")] == PARTS
    assert page.open == []
    assert len(re.findall(r"^## ", markdown, re.MULTILINE)) == len(PARTS)
    # The best trial is the one with the highest value of all.
    assert "0.7100" in page.text and "t0012" in page.text and "t0012" in markdown
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {"best_so_far", "learning_curves", "importance", "slices", "parallel", "time_and_epochs"} <= figures
    # Markdown links the figures, the page holds them.
    assert set(re.findall(r"\(figures/(\w+)\.png\)", markdown)) == figures
    assert len(page.all("img")) == len(figures)


def test_one_file_holds_all_of_the_page(plain):
    page, _, folder = plain
    assert all(attrs["src"].startswith("data:image/png;base64,") for attrs in page.all("img"))
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert [attrs["media"] for attrs in page.all("source")] == ["screen and (prefers-color-scheme: dark)"] * len(
        page.all("img")
    )
    assert not page.all("link") and not any("src" in attrs for attrs in page.all("script"))
    text = (folder / "report.html").read_text()
    assert "http://" not in text and "https://" not in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert "@media print" in text and "max-width: 40rem" in text


def test_tables_are_the_frames(plain):
    _, _, folder = plain
    results = load(folder)
    back = pd.read_csv(folder / "tables/trials.csv")
    assert list(back.columns) == list(results.trials.columns) and len(back) == 12
    assert len(pd.read_csv(folder / "tables/epochs.csv")) == 36
    assert pd.read_csv(folder / "tables/importance.csv")["parameter"].isin(["lr", "kind"]).all()


def test_trials_can_be_sorted(plain):
    page, _, _ = plain
    assert [attrs["type"] for attrs in page.all("button")] == ["button"] * 8
    # Numbers are sorted as numbers, whatever they look like.
    assert {"1.0", "0.1", "0.01", "0.001"} <= {attrs.get("data-key") for attrs in page.all("td")}


@pytest.mark.usefixtures("undrawn")
def test_a_table_that_paper_cuts_says_so(tmp_path, plain):
    page, _, _ = report(tmp_path, trials(61))
    assert "On paper, the table shows 60 of 61 rows and 8 of 8 columns" in page.text
    page, _, _ = plain
    assert "On paper" not in page.text
    # The style hides as many as the sentence says.
    style = (Path(html.__file__).parent / "page.css").read_text()
    assert f"tr:nth-child(n+{html.ROWS_ON_PAPER + 1})" in style
    assert f"td:nth-child(n+{html.COLUMNS_ON_PAPER + 1})" in style


@pytest.mark.usefixtures("undrawn")
def test_long_texts_have_room_and_backticks_are_code(tmp_path):
    page, _, folder = report(tmp_path, [Made({"lr": 0.1, "kind": "a" * 40}, [0.5]), *trials(3)])
    assert {"class": "long"} in page.all("td")
    assert "<code>tuner study</code>" in (folder / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_failures_are_told_by_cause(tmp_path):
    made = [*trials(), failed({"lr": 1.0}, error="ValueError: too high"), failed({"lr": 1.0}, "config.shape", "x"),
            failed({"lr": 0.5}, error="other")]  # fmt: skip
    page, _, folder = report(tmp_path, made)
    rows = pd.read_csv(folder / "tables/failures.csv")
    assert rows[["cause", "trials"]].values.tolist() == [["config.raised", 2], ["config.shape", 1]]
    assert "ValueError: too high" in page.text


@pytest.mark.usefixtures("undrawn")
def test_what_breaks_a_constraint_is_never_the_answer(tmp_path):
    made = [Made({"lr": 0.1, "kind": "a"}, [0.99, 0.5]), *trials(6)]  # best at epoch 1, where train_loss is 1
    page, markdown, folder = report(tmp_path, made, head={"constraints": ["train_loss < 0.6"]})
    assert "best 0.99" not in page.text and "Constraints: train_loss < 0.6; 6 trials met all of them" in page.text
    rows = pd.read_csv(folder / "tables/trials.csv")
    assert list(rows["feasible"]) == [False] + [True] * 6
    last = [line for line in markdown.splitlines() if line.startswith("| t0")][-1]
    assert last.startswith("| t0001") and "t0001" not in markdown.split("## ")[1]


def test_several_objectives_have_a_table_and_a_figure(tmp_path):
    made = [*trials(6), Made({"lr": 0.1, "kind": "a"}, [0.8])]  # best at epoch 1, where train_loss is 1
    page, _, folder = report(tmp_path, made, head={"objectives": {"train_loss": "min"}})
    assert "The Pareto set by val_accuracy (max), train_loss (min)" in page.text
    rows = pd.read_csv(folder / "tables/pareto.csv")
    assert rows[["trial", "val_accuracy", "train_loss"]].values.tolist() == [["t0007", 0.8, 1.0], ["t0006", 0.65, 0.5]]
    assert (folder / "figures/pareto.png").is_file()


@pytest.mark.usefixtures("undrawn")
def test_budgets_are_told(tmp_path):
    page, _, _ = report(tmp_path, trials(3), tables={"resources": {"epoch_budget": 1000}})
    assert "of 1,000 epochs spent, " in page.text and "(resources.epoch_budget)." in page.text


@pytest.mark.usefixtures("undrawn")
def test_where_no_config_came_through_is_said(tmp_path):
    good = [Made({"lr": 10**-n, "kind": "ab"[n % 2]}, [0.5, 0.6]) for n in (1, 2, 3, 4)]
    bad = [failed({"lr": lr, "kind": kind}) for lr, kind in ((0.5, "a"), (0.7, "b"), (0.9, "a"))]
    lost = [failed({"lr": 0.01, "kind": "a"}, "infrastructure.node_lost", "its node was lost.")]
    page, markdown, _ = report(tmp_path, [*good, *bad, *lost])
    for text in (page.text, markdown.replace("\\", "").replace("&gt;", ">")):
        assert "Where no config came through: lr >= 0.5: 3 of 3 failed." in text


@pytest.mark.usefixtures("undrawn")
def test_a_running_sweep_says_so(tmp_path):
    import fcntl

    made = [*trials(3), Made({"lr": 0.1, "kind": "a"}, [0.5], "running"), Made({"lr": 0.2, "kind": "b"}, [], "pending")]
    folder = make_run(tmp_path / "runs/one", made, finished=None, space=SPACE)
    with (folder / "driver.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        page, _, _ = written(folder)
    assert "This sweep is still running: 3 of 5 trials begun so far are over" in page.text


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_and_a_half_failed_sweep_say_so(tmp_path):
    made = [*trials(3), *[failed({"lr": 0.1, "kind": "a"})] * 4]
    page, markdown, _ = report(tmp_path, made, finished=None)
    assert "This sweep was interrupted" in page.text and "4 of 7 trials that are over failed" in page.text
    assert "> **This sweep was interrupted" in markdown


ODD = {
    "no trial": ([], "There is no best config"),
    "no completed trial": ([failed({"lr": 0.1})] * 3, "There is no best config"),
    "one trial": ([Made({"lr": 0.1, "kind": "a"}, [0.5])], "No parameter differs between the trials"),
    "one epoch": ([Made({"lr": n / 10, "kind": "a"}, [0.5]) for n in range(1, 9)], "val_accuracy"),
    "no metric": ([Made({"lr": n / 10, "kind": "a"}, [None, None]) for n in range(1, 4)], "There is no best config"),
    "metric missing in some": ([*trials(9), *[Made({"lr": 0.1, "kind": "a"}, [None])] * 3], "The answer"),
    "nan": ([*trials(9), Made({"lr": 0.1, "kind": "a"}, [math.nan, math.inf, -math.inf])], "The answer"),
    "constant": ([Made({"lr": 0.1, "kind": "a"}, [0.5, 0.6]) for _ in range(12)], "No parameter differs"),
    "same score": ([Made({"lr": n / 20, "kind": "a"}, [0.5] * 3) for n in range(1, 13)], "The answer"),
    "pending": ([Made({"lr": 0.1, "kind": "a"}, [], "pending")], "There is no best config"),
    "odd values": ([Made({"lr": v, "kind": [v]}, [0.5, 0.6]) for v in (None, "x", [1], True, 1e300)], "The answer"),
}


@pytest.mark.usefixtures("undrawn")  # tests/analysis/figures/test_odd_data.py draws such runs
@pytest.mark.parametrize("name", ODD)
def test_an_odd_run_has_a_report_all_the_same(tmp_path, name):
    made, said = ODD[name]
    page, markdown, _ = report(tmp_path, made)
    assert [attrs["id"] for attrs in page.all("section")] == PARTS
    assert said in page.text
    assert "could not be computed" not in page.text + markdown
    assert not re.search(r"\bnan\b|Traceback", page.text)


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_without_a_space_or_data(tmp_path):
    page, _, _ = report(tmp_path, trials(), space={})
    assert "Importance is not shown: the sweep has no [space]" in page.text
    assert "not corrected: this sweep keeps no predictions" in page.text


# -- predictions -------------------------------------------------------------------------------------------------------


def with_predictions(folder, data, arrays):
    """Give a run a [data] table, and its trials' predictions."""
    path = folder / FILE_NAME
    events = list(Journal(path).events())
    for left in folder.glob("journal*"):
        left.unlink()
    toml = events[0].body["toml"] + f"\n[data]\n{data}\n"
    journal = Journal(path)
    journal.append(Event("sweep", body={"toml": toml, "sha256": ""}), *events[1:])
    journal.close()
    (folder / "predictions").mkdir()
    for trial, epochs in arrays.items():
        np.savez(folder / "predictions" / f"{trial}.npz", **epochs)
    return folder


def probabilities(y, classes, seed=0):
    rng = np.random.default_rng(seed)
    told = np.where(rng.random(len(y)) < 0.8, y, rng.integers(0, classes, len(y)))
    return (np.eye(classes)[told] * 0.7 + 0.3 / classes).astype(np.float32)


def test_with_predictions_the_score_is_corrected_and_mistakes_are_shown(tmp_path):
    from trainables import data

    y = data.val_labels({"name": "wine"}, 0)
    arrays = {f"t{n:04d}": {str(e): probabilities(y, 3, 10 * n + e) for e in (1, 2, 3)} for n in range(1, 5)}
    made = [
        Made({"lr": 0.1**n, "kind": "a"}, [float((array.argmax(axis=1) == y).mean()) for array in epochs.values()])
        for n, epochs in enumerate(arrays.values())
    ]
    folder = make_run(tmp_path / "runs/one", made, space=SPACE)
    page, _, _ = written(with_predictions(folder, 'name = "wine"', arrays))
    assert (
        "Corrected by a bootstrap of the whole selection over 12 trained models and 36 validation samples" in page.text
    )
    assert {path.stem for path in (folder / "figures").iterdir()} >= {"confusion_matrix", "roc", "precision_recall"}


def test_values_have_residuals(tmp_path):
    from trainables import data

    y = data.val_labels({"name": "diabetes"}, 0)
    made = [Made({"lr": 0.1, "kind": "a"}, [60.0, 55.0]), Made({"lr": 0.2, "kind": "b"}, [70.0, 65.0])]
    folder = make_run(tmp_path / "runs/one", made, space=SPACE, metric="val_rmse", mode="min")
    arrays = {f"t000{n}": {"1": y + 60, "2": y + 50 * n} for n in (1, 2)}
    page, _, _ = written(with_predictions(folder, 'name = "diabetes"', arrays))
    assert (folder / "figures/residuals.png").is_file()
    assert "lower is better" in page.text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("array", [np.zeros((7, 3)), np.zeros(36), np.full((36, 3), np.nan), np.array(["x"])])
def test_predictions_that_do_not_fit_are_left_out(tmp_path, array):
    folder = make_run(tmp_path / "runs/one", trials(4), space=SPACE)
    arrays = {f"t{n:04d}": {str(e): array for e in (1, 2, 3)} for n in range(1, 5)}
    page, _, _ = written(with_predictions(folder, 'name = "wine"', arrays))
    assert "What the best model gets wrong is not shown" in page.text
    assert "not corrected" in page.text and "could not be computed" not in page.text


@pytest.mark.usefixtures("undrawn")
def test_data_that_is_not_here_is_said_and_never_fetched(tmp_path):
    folder = make_run(tmp_path / "runs/one", trials(4), space=SPACE)
    arrays = {"t0004": {"2": np.zeros((36, 3))}}
    table = f'name = "mnist"\nroot = "{tmp_path}/nothing"\ndownload = true'
    page, _, _ = written(with_predictions(folder, table, arrays))
    assert "the data is not here" in page.text
    assert not (tmp_path / "nothing").exists()


@pytest.mark.usefixtures("undrawn")
def test_one_class_is_said(tmp_path, monkeypatch):
    y = np.zeros(36, dtype=int)
    monkeypatch.setattr(findings, "labels", lambda results: findings.Labels(y, ("a", "b", "c")))
    folder = make_run(tmp_path / "runs/one", trials(4), space=SPACE)
    arrays = {f"t{n:04d}": {"2": probabilities(y, 3, n)} for n in range(1, 5)}
    page, _, _ = written(with_predictions(folder, 'name = "wine"', arrays))
    assert "has samples of one class only" in page.text


def test_an_npz_file_is_read_as_numpy_reads_it(tmp_path):
    arrays = {"1": np.random.default_rng(0).random((7, 3)).astype(np.float32), "2": np.asfortranarray(np.eye(7, 3)),
              "3": np.arange(7), "best": np.zeros(2)}  # fmt: skip
    (tmp_path / "predictions").mkdir()
    for save, name in ((np.savez, "t1"), (np.savez_compressed, "t2")):
        save(tmp_path / f"predictions/{name}.npz", **arrays)
        found = predictions(tmp_path, name)
        assert list(found) == [1, 2, 3]
        assert all((found[int(epoch)] == arrays[epoch]).all() for epoch in "123")
        assert found[1].dtype == np.float32


def test_damaged_predictions_are_none(tmp_path):
    (tmp_path / "predictions").mkdir()
    path = tmp_path / "predictions/t1.npz"
    np.savez(path, **{"1": np.zeros((7, 3))})
    whole = path.read_bytes()
    middle = whole.index(b"\x00" * 100) + 50
    for damaged in (whole[:-30], whole[: len(whole) // 2], whole[:middle] + b"\x01" + whole[middle + 1 :], b"", b"x"):
        path.write_bytes(damaged)
        assert predictions(tmp_path, "t1") == {}
    np.savez(path, **{"1": np.array([{}], dtype=object)})
    assert predictions(tmp_path, "t1") == {}


# -- hostile runs ------------------------------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def test_nothing_of_a_run_becomes_markup(tmp_path):
    made = [
        *[Made({"lr": 10 ** -(n % 4), "kind": "ab"[n % 2], EVIL: f"{EVIL}{n % 3}"}, [0.5, 0.6]) for n in range(12)],
        failed({"lr": 0.1, EVIL: EVIL}, cause=f"config.{EVIL}", error=f"{EVIL} `{EVIL}` | a | b"),
    ]
    space = {**SPACE, EVIL: {"choice": [f"{EVIL}{n}" for n in range(3)]}}
    folder = make_run(tmp_path / f"runs/{EVIL.replace('/', '')}", made, space=space, metric=EVIL)
    (folder / "best").mkdir()
    (folder / "best" / EVIL.replace("/", "")).write_text("")
    (folder / "provenance.json").write_text('{"command": ["' + EVIL.replace('"', '\\"') + '"]}')
    page, markdown, _ = written(folder)
    # One script, the page's own; its policy names it by its hash.
    assert len(page.all("script")) == 1
    assert all(attrs["src"].startswith("data:") for attrs in page.all("img"))
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert EVIL in page.text
    outside_code = re.sub(r"^(`{3,}).*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside_code and "<img" not in outside_code
    names = {path.name for sub in ("figures", "tables") for path in (folder / sub).iterdir()}
    assert all(re.fullmatch(r"\w+\.(png|csv)", name) for name in names)


def test_the_policy_lets_the_pages_own_script_run(plain):
    import base64
    import hashlib

    page, _, folder = plain
    (policy,) = [attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs]
    script = re.search(r"<script>(.*)</script>", (folder / "report.html").read_text(), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["figures", "tables"])
def test_a_link_in_the_run_folder_is_not_followed(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = make_run(tmp_path / "runs/one", trials(3), space=SPACE)
    (folder / name).symlink_to(outside)
    with pytest.raises(RunError, match="must be a folder, but it is a symbolic link"):
        write_report(load(folder))
    assert list(outside.iterdir()) == []


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_a_second_report_replaces_the_first_and_leaves_other_files(tmp_path):
    _, _, folder = report(tmp_path, trials(3))
    (folder / "figures/mine.png").write_text("mine")
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").write_text("old")
    written(folder)
    assert (folder / "report.html").read_bytes() == before  # the same run gives the same page, byte for byte
    assert (folder / "figures/mine.png").read_text() == "mine"
    assert not list(folder.glob(".report-*"))


@pytest.mark.usefixtures("undrawn")
def test_a_place_that_cannot_be_written(tmp_path):
    folder = make_run(tmp_path / "runs/one", trials(3), space=SPACE)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"the report cannot be written here: .* Choose another folder with --out"):
        write_report(load(folder), tmp_path / "file")


def test_dark_figures_have_the_pixels_of_light_ones(plain):
    from tuner.report.images import darkened

    light = np.array([[255, 255, 255], [0x1F, 0x23, 0x28], [0, 0x72, 0xB2]], dtype=float)
    assert darkened(light).tolist() == [[0x0D, 0x11, 0x17], [0xE6, 0xED, 0xF3], [0x58, 0xB2, 0xF0]]
    _, _, folder = plain
    with Image.open(folder / "figures/slices.png") as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_what_cannot_be_computed_is_a_sentence():
    """A mistake of ours costs a person one part, not the report."""
    found = attempt("the tide", lambda: Missing(str(1 / 0)))
    assert found == Missing("the tide could not be computed (ZeroDivisionError: division by zero)")
    assert dataclasses.is_dataclass(found)


def test_a_report_imports_neither_torch_nor_ray(tmp_path):
    make_run(tmp_path / "runs/one", trials(4), space=SPACE)
    program = (
        "import sys; from tuner.cli.main import run_command; assert run_command(['report', 'one']) == 0; "
        "loaded = {'torch', 'torchvision', 'ray', 'hyperopt', 'matplotlib.pyplot'} & set(sys.modules); "
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, *told = done.stdout.splitlines()
    assert first == "runs/one/report.html" and len(told) == 3
    assert told[0].startswith("best: t0004, lr=0.001 kind=b")


def test_ahead_of_the_baseline_means_better_in_either_mode():
    paired = {"difference": -0.5, "low": -0.75, "high": -0.25, "level": 0.95}
    # A smaller error is an advance.
    assert answer._paired(paired, "min").value == "+0.5000"
    assert answer._paired(paired, "min").note.startswith("better; 95% paired interval 0.2500 to 0.7500")
    assert answer._paired(paired, "max").note.startswith("worse; 95% paired interval -0.7500 to -0.2500")
    assert answer._paired({"difference": None, "note": "why"}, "max") is None
