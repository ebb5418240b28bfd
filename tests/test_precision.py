"""What models compute in: what "auto" comes to, where it is kept, and who learns of it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import tuner
from tuner import precision
from tuner.errors import UsageError
from tuner.machine import bf16_unit
from tuner.plan import make_plan
from tuner.precision import resolve
from tuner.trainable import DataInfo

RATE = {"learning_rate": tuner.LogUniform(1e-3, 1e-1)}
FLAGS = {
    "amx": "flags\t\t: fpu amx_bf16 amx_tile amx_int8\n",
    "avx512": "flags\t\t: avx512f avx512_bf16\n",
    "none": "flags\t\t: fpu avx2\n",
}


@pytest.fixture
def amx(tmp_path):
    """What Linux says of a processor with AMX."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n" + FLAGS["amx"])
    return tmp_path / "cpuinfo"


@pytest.fixture
def passed(monkeypatch):
    """The gates as they are to be: cnn passed on CPUs."""
    monkeypatch.setattr(precision, "PASSED", {"amx": ("cnn",), "avx512": ("cnn",), "cuda": ()})


def of(trainable="cnn", **resources):
    data = {"name": "breast_cancer" if trainable == "mlp" else "digits"}
    return tuner.Sweep(trainable=trainable, data=data, space=RATE, metric="val_accuracy", resources=resources)


def own(config, trial):
    trial.report(score=1.0 if trial.precision == "bf16" else 0.0)


def test_auto_is_bf16_where_the_processor_has_it_and_the_gate_was_passed(passed, amx):
    assert resolve(of(), "cpu", cpuinfo=amx) == ("bf16", "bf16 (auto: this CPU has AMX, and cnn ends as in fp32)")


def test_auto_is_bf16_with_avx512_once_its_own_gate_was_passed(passed, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(FLAGS["avx512"])
    assert bf16_unit(tmp_path / "cpuinfo") == "avx512"
    why = "bf16 (auto: this CPU has AVX-512 BF16, and cnn ends as in fp32)"
    assert resolve(of(), "cpu", cpuinfo=tmp_path / "cpuinfo") == ("bf16", why)
    monkeypatch.setattr(precision, "PASSED", {"amx": ("cnn",), "avx512": (), "cuda": ()})
    why = "fp32 (auto: bf16 has not passed its gate for cnn on a CPU with AVX-512 BF16)"
    assert resolve(of(), "cpu", cpuinfo=tmp_path / "cpuinfo") == ("fp32", why)


@pytest.mark.parametrize(
    ("trainable", "device", "here", "why"),
    [
        (own, "cpu", True, "the trainable is your own"),
        ("mlp", "cpu", True, "nothing to gain for mlp"),
        ("resnet", "cpu", True, "bf16 has not passed its gate for resnet on a CPU"),
        ("cnn", "cuda", True, "bf16 has not passed its gate for cnn on a GPU"),
        ("cnn", "cpu", False, "what a cluster's nodes have is not known"),
    ],
    ids=["own", "table", "gate", "gpu", "cluster"],
)
def test_auto_is_fp32_wherever_something_speaks_against_bf16(passed, amx, trainable, device, here, why):
    assert resolve(of(trainable), device, here=here, cpuinfo=amx) == ("fp32", f"fp32 (auto: {why})")


@pytest.mark.parametrize(("side", "became"), [(8, "fp32"), (11, "fp32"), (12, "bf16"), (28, "bf16")])
def test_auto_is_fp32_for_images_that_gain_nothing(passed, amx, side, became):
    data = DataInfo("own", "classification", (1, side, side), ("a", "b"))
    chosen, why = resolve(of(), "cpu", data=data, cpuinfo=amx)
    assert chosen == became
    assert (why == f"fp32 (auto: images of {side}x{side} are too small to gain anything)") == (became == "fp32")


@pytest.mark.parametrize("text", [FLAGS["none"], "", None], ids=["an older one", "nothing told", "no file"])
def test_auto_is_fp32_without_a_unit_for_it(passed, tmp_path, text):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert not bf16_unit(tmp_path / "cpuinfo")
    why = "fp32 (auto: this CPU has neither AMX nor AVX-512 BF16)"
    assert resolve(of(), "cpu", cpuinfo=tmp_path / "cpuinfo")[1] == why


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_is_asked_for_is_what_it_gets(asked, tmp_path):
    assert resolve(of("mlp", precision=asked), "cpu", here=False, cpuinfo=tmp_path) == (asked, asked)


def test_passed_is_what_the_recorded_gate_says():
    file = Path(__file__).parents[1] / "benchmarks/results/precision.json"
    # Before anything is recorded, nothing has passed.
    gates = json.loads(file.read_text())["gates"] if file.is_file() else {}
    assert {gate["trainable"] for gate in gates.values()} <= set(precision.MEASURABLE)
    found = {device: [] for device in precision.PASSED}
    for gate in gates.values():
        parts = [part["verdict"] for part in gate["parts"].values()]
        # Two data sets and the ranks: a gate that lost a part on its way passes nothing.
        if gate["verdict"] == "passed" and parts == ["passed"] * 3:
            found[gate["device"]].append(gate["trainable"])
    assert {device: tuple(names) for device, names in found.items()} == precision.PASSED


def test_a_plan_has_it_resolved_and_says_why():
    plan = make_plan(of(), 2, 0, memory=False)
    assert plan.sweep.resources.precision in ("fp32", "bf16")
    assert plan.precision.startswith(f"{plan.sweep.resources.precision} (auto: ")
    assert plan.to_dict()["precision"] == plan.precision


def test_what_auto_came_to_is_frozen_and_stays(tmp_path):
    sweep = tuner.Sweep(trainable=own, name="one", metric="score", mode="max", space=RATE, search={"trials": 1})
    tuner.run(sweep, storage=tmp_path, backend="inline")
    frozen = tomllib.loads((tmp_path / "one/sweep.toml").read_text())
    assert frozen["resources"]["precision"] == "fp32"
    with pytest.raises(UsageError, match=r"resources\.precision: a sweep keeps .*\(fp32\)"):
        tuner.resume(tmp_path / "one", overrides=["resources.precision=bf16"], trainable=own, backend="inline")
    same = ["resources.precision=fp32"]
    more = tuner.resume(tmp_path / "one", trials=2, overrides=same, trainable=own, backend="inline")
    assert len(more.trials) == 2


def test_a_trainable_is_told(tmp_path):
    sweep = tuner.Sweep(
        trainable=own,
        metric="score",
        mode="max",
        max_epochs=1,
        space=RATE,
        search={"trials": 1},
        resources={"precision": "bf16"},
    )
    results = tuner.run(sweep, storage=tmp_path, backend="inline")
    assert results.trials["best.score"].tolist() == [1.0]
