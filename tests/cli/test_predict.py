"""The best model of real sweeps, taken away and asked about new files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_runs import Made, make_run
from PIL import Image
from sklearn.datasets import load_digits

import tuner
from trainables import data
from trainables.saved import load_saved
from tuner.cli.main import run_command

ROOT = Path(__file__).parents[2]


def swept(folder, trainable, options, config, precision="fp32"):
    sweep = tuner.Sweep(
        name=trainable,
        trainable=trainable,
        data=options,
        max_epochs=2,
        space=config,
        search={"strategy": "random", "trials": 1},
        resources={"precision": precision},
    )
    return tuner.run(sweep, storage=folder, backend="inline")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A sweep on images, one on a table of values, one on a table of classes; one trial each."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=90), "kind": rng.choice(["a", "b"], 90)})
    frame["price"] = 1000 + 50 * frame["size"] + 20 * (frame["kind"] == "a")
    frame["cheap"] = np.where(frame["price"] < 1000, "yes", "no")
    frame.to_csv(folder / "table.csv", index=False)
    table = {"name": "table", "path": str(folder / "table.csv")}
    small = {"dense_units": 8, "dense_layers": 1}
    return {
        "digits": swept(folder / "d", "cnn", {"name": "digits", "limit": 600}, {"filters": 8}),
        "bf16": swept(folder / "b", "cnn", {"name": "digits", "limit": 600}, {"filters": 8}, "bf16"),
        "values": swept(folder / "v", "mlp", {**table, "target": "price", "drop": ["cheap"]}, small),
        "classes": swept(folder / "c", "mlp", {**table, "target": "cheap", "drop": ["price"]}, small),
    }


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Three digits as PNG files, 8x8, as the bundled set has them."""
    monkeypatch.chdir(tmp_path)
    for digit, image in zip(range(3), load_digits().images, strict=False):
        Image.fromarray(np.rint(image * 255 / 16).astype(np.uint8)).save(f"{digit}.png")
    return ["0.png", "1.png", "2.png"]


def told(capsys):
    return json.loads(capsys.readouterr().out)


def saved_of(results):
    trainable = results.sweep["sweep"]["trainable"]
    return load_saved(results.folder / "best", trainable)


# A model that was trained in bf16 predicts in fp32: the same to its 8 bits.
@pytest.mark.parametrize(
    ("name", "close"),
    [(name, {"rtol": 1e-4, "atol": 1e-5}) for name in ("digits", "values", "classes")] + [("bf16", {"atol": 0.02})],
)
def test_a_saved_model_predicts_what_the_trial_reported(runs, name, close):
    results = runs[name]
    sweep, best = results.sweep, results.best()
    reported = np.load(results.folder / "predictions" / f"{best.trial}.npz")[str(best.epoch)]
    val = data.load(sweep["data"], sweep["sweep"]["seed"]).val
    np.testing.assert_allclose(saved_of(results).predict(val.x), reported, **close)


def test_images(runs, pictures, capsys):
    assert run_command(["predict", str(runs["digits"].folder), *pictures, "--json"]) == 0
    rows = told(capsys)
    expected = saved_of(runs["digits"]).predict(np.concatenate([saved_of(runs["digits"]).read(p) for p in pictures]))
    assert [row["file"] for row in rows] == pictures
    for row, probabilities in zip(rows, expected, strict=True):
        assert row["class"] == str(probabilities.argmax()) and sum(row["probabilities"].values()) == pytest.approx(1)
    # The pixels are those that the set has, to the last.
    raw = saved_of(runs["digits"]).read("0.png")
    assert np.array_equal(raw[0, 0], np.rint(load_digits().images[0] * 255 / 16))


def test_a_photograph_of_another_size_and_mode_is_fitted(runs, pictures, capsys):
    Image.new("RGBA", (40, 30), (200, 10, 10, 255)).save("photo.png")
    assert saved_of(runs["digits"]).read("photo.png").shape == (1, 1, 8, 8)
    assert run_command(["predict", str(runs["digits"].folder), "photo.png"]) == 0
    assert capsys.readouterr().out.startswith("photo.png  ")


def test_wrong_files_are_named_and_the_others_go_on(runs, pictures, capsys):
    Path("broken.png").write_bytes(b"no image")
    files = [pictures[0], "broken.png", "missing.png", pictures[1]]
    assert run_command(["predict", str(runs["digits"].folder), *files]) == 2
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == ["0.png", "1.png"]
    first, second = captured.err.splitlines()
    assert first.startswith("broken.png: not a readable image (") and second == "missing.png: there is no such file."


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_new_rows(runs, tmp_path, capsys, suffix, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Other columns, another order, a missing number and an unseen category: what the training table never had.
    new = pd.DataFrame({"kind": ["a", "b", "zebra"], "note": ["x", "y", "z"], "size": [3.0, -3.0, None]})
    new.to_csv("new.csv", index=False) if suffix == ".csv" else new.to_parquet("new.parquet")
    assert run_command(["predict", str(runs["values"].folder), f"new{suffix}", "--json"]) == 0
    rows = told(capsys)
    assert [row["row"] for row in rows] == [1, 2, 3]
    assert rows[0]["value"] > rows[1]["value"] and 500 < rows[0]["value"] < 1500  # in the target's own units


def test_out_writes_a_column_a_class(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"kind": ["a", "b"], "size": [3.0, -3.0]}).to_csv("new.csv", index=False)
    assert run_command(["predict", str(runs["classes"].folder), "new.csv", "--out", "p.csv"]) == 0
    assert capsys.readouterr().out == "p.csv: 2 predictions\n"
    frame = pd.read_csv("p.csv")
    assert list(frame.columns) == ["file", "row", "class", "p.no", "p.yes"]
    assert (frame["p.no"] + frame["p.yes"]).to_list() == pytest.approx([1, 1])


def test_a_table_without_a_column_and_one_that_is_no_table(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"sizes": [1.0]}).to_csv("new.csv", index=False)
    Path("new.txt").write_text("x")
    assert run_command(["predict", str(runs["values"].folder), "new.csv", "new.txt"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith('new.csv: column "size" is not there') and 'Did you mean "sizes"?' in first
    assert second == "new.txt: a table must end in .csv or .parquet."


# tuner export --model


# What runs the example of one exported folder after another: a process that imports torch once.
EXAMPLES = """
import runpy, sys
for folder, file in zip(sys.argv[1::2], sys.argv[2::2]):
    sys.argv = [f"{folder}/example.py", file]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_example_in_an_exported_folder_runs(runs, pictures, capsys):
    pd.DataFrame({"kind": ["a"], "size": [1.0]}).to_csv("new.csv", index=False)
    files = {"digits": "0.png", "values": "new.csv"}
    for name in files:
        assert run_command(["export", str(runs[name].folder), "--model", f"taken/{name}"]) == 0
        printed = capsys.readouterr().out.strip()
        assert printed == f"taken/{name}: config.toml, metrics.json, model.pt, preprocess.json, example.py"
        assert len([line for line in Path(f"taken/{name}/example.py").read_text().splitlines() if line]) <= 10
    places = [part for name, file in files.items() for part in (f"taken/{name}", file)]
    command = [sys.executable, "-c", EXAMPLES, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    for line, (name, file) in zip(done.stdout.splitlines(), files.items(), strict=True):
        run_command(["predict", str(runs[name].folder), file, "--json"])
        (row,) = told(capsys)
        shown = line.split()
        assert shown[0] == file
        assert float(shown[-1]) == pytest.approx(row.get("value") or max(row["probabilities"].values()), rel=1e-5)


def test_one_file_holds_everything(runs, pictures, capsys):
    assert run_command(["export", str(runs["digits"].folder), "--model", "model.pt"]) == 0
    parts = torch.load("model.pt", weights_only=True)
    assert set(parts) == {"trainable", "config", "preprocess", "state_dict"} and parts["trainable"] == "cnn"
    saved, best = load_saved("model.pt"), saved_of(runs["digits"])
    assert np.array_equal(saved.predict(saved.read("0.png")), best.predict(best.read("0.png")))


def test_a_place_that_is_taken_is_left_alone(runs, pictures, capsys):
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    assert run_command(["export", str(runs["digits"].folder), "--model", "full"]) == 2
    assert "full: the folder must be new or empty" in capsys.readouterr().err
    assert [path.name for path in Path("full").iterdir()] == ["mine.txt"]


def test_onnx_gives_the_same_predictions_or_says_what_is_missing(runs, pictures, capsys):
    status = run_command(["export", str(runs["digits"].folder), "--model", "model.onnx"])
    try:
        import onnx
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        assert status == 2 and not Path("model.onnx").exists()
        error = capsys.readouterr().err
        assert "writing ONNX needs onnx and onnxscript" in error and 'pip install "cnn-tuner[onnx]"' in error
        return
    assert status == 0
    saved = saved_of(runs["digits"])
    raw = np.concatenate([saved.read(path) for path in pictures])
    (given,) = ReferenceEvaluator(onnx.load("model.onnx")).run(None, {"x": raw.astype(np.float32)})
    np.testing.assert_allclose(given, saved.predict(raw), rtol=1e-3, atol=1e-4)


def test_a_run_without_a_model_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = make_run(tmp_path / "runs/one", [Made({}, [0.5])])
    assert run_command(["predict", "one", "a.png"]) == 2
    assert "there is no best/ yet" in capsys.readouterr().err
    (folder / "best").mkdir()
    assert run_command(["export", "one", "--model", "m"]) == 2
    assert "there is no model.pt" in capsys.readouterr().err


def test_a_function_of_ones_own(tmp_path, monkeypatch, capsys):
    def train(config, trial):
        trial.report(epoch=1, score=1.0, state={"w": torch.zeros(2)})

    monkeypatch.chdir(tmp_path)
    sweep = tuner.Sweep(trainable=train, metric="score", mode="max", max_epochs=1, space={"x": 1}, search={"trials": 1})
    folder = str(tuner.run(sweep, storage=tmp_path, backend="inline").folder)
    assert run_command(["predict", folder, "a.png"]) == 2
    assert "predict knows the built-in trainables (cnn, resnet, mlp)" in capsys.readouterr().err
    assert run_command(["export", folder, "--model", "m.pt"]) == 2
    assert "Name a folder" in capsys.readouterr().err
    assert run_command(["export", folder, "--model", "m"]) == 0
    done = subprocess.run([sys.executable, "m/example.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "['w']" in done.stdout, done.stderr


def test_damaged_weights_are_named(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_command(["export", str(runs["digits"].folder), "--model", "m"])
    Path("m/model.pt").write_bytes(b"garbage")
    with pytest.raises(tuner.TunerError, match=r"m/model\.pt: not a readable model"):
        load_saved("m", "cnn")
    with pytest.raises(tuner.TunerError, match=r"nothing: not a readable model"):
        load_saved("nothing", "cnn")
    other = saved_of(runs["values"]).model.state_dict()
    torch.save(other, "m/model.pt")
    with pytest.raises(tuner.TunerError, match="the weights are not those of its config"):
        load_saved("m", "cnn")
