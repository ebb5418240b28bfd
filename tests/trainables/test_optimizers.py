from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables import mlp
from trainables.alone import Alone
from trainables.data import load
from trainables.flat import Flat, Places
from trainables.optimizers import Optimizer, make_optimizer
from trainables.parameters import PARAMETERS, complete

ROOT = Path(__file__).parents[2]
NAMES = PARAMETERS["optimizer"].options
STEPS = 6


def network(dtype=torch.float64):
    """Filters, biases and batch norm, as a CPU trains them: channels_last."""
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 16, 2)]
    return nn.Sequential(*layers).to(dtype=dtype, memory_format=torch.channels_last)


def config(name, **values):
    return complete("cnn", {"optimizer": name, "weight_decay": 0.1, "momentum": 0.8, **values})


def rates(first=0.01):
    return [first / (step + 1) for step in range(STEPS)]


def torchs(name, model, given):
    """torch's own, with weight decay on weights only: what older versions trained with."""
    parts = [[p for p in model.parameters() if p.ndim >= 2], [p for p in model.parameters() if p.ndim < 2]]
    groups = [{"params": p, "weight_decay": d} for p, d in zip(parts, (given["weight_decay"], 0), strict=True)]
    momentum = given["momentum"]
    if name == "sgd":
        return torch.optim.SGD(groups, 1.0, momentum=momentum)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, 1.0, momentum=momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](groups, 1.0, betas=(momentum, 0.999))


def loss(model, step):
    x = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(step))
    return model(x.to(next(model.parameters()).dtype)).square().mean()


def train_with_torch(name, model, given, used, l1=0.0, first=0):
    optimizer = torchs(name, model, given)
    for step, rate in enumerate(used, first):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = rate
        optimizer.zero_grad()
        penalty = l1 * sum(p.abs().sum() for p in model.parameters() if p.ndim >= 2)
        (loss(model, step) + penalty).backward()
        optimizer.step()
    return optimizer


def train(optimizer, model, used, first=0):
    optimizer.begin([used])
    for number in range(len(used)):
        loss(model, first + number).backward()
        optimizer.step(number)


def assert_same(model, twin, rtol):
    for (name, value), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(value, theirs, rtol=rtol, atol=rtol, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_each_optimizer_is_torchs_own(name, fused, dtype, momentum):
    model, twin = network(dtype), network(dtype)
    twin.load_state_dict(model.state_dict())
    given = config(name, momentum=momentum, l1=0.01)
    train(Optimizer(Flat.lone(model), [given], fused=fused), model, rates())
    train_with_torch(name, twin, given, rates(), l1=0.01)
    assert_same(model, twin, 1e-12 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_lanes_move_as_they_would_alone_whatever_their_neighbours_do(name, fused):
    places = Places.of(network())
    rows = torch.stack([places.row(dict(network().named_parameters())) for _ in range(3)])
    grads = torch.randn(STEPS, *rows.shape, dtype=rows.dtype)
    grads[:, 1] = torch.nan
    configs = [config(name, momentum=0.1 * k, weight_decay=0.2 * k, l1=0.01 * k) for k in range(3)]
    used = [rates(0.01 * (k + 1)) for k in range(3)]

    def moved(lanes):
        flat = Flat(places, rows[lanes].clone())
        optimizer = Optimizer(flat, [configs[k] for k in lanes], fused=fused)
        optimizer.begin([used[k] for k in lanes])
        for step in range(STEPS):
            for place, leaf in zip(places, flat.leaves, strict=True):
                leaf.grad = grads[step, lanes, place.start : place.stop].view_as(leaf)
            optimizer.step(step)
        return flat.values

    together = moved([0, 1, 2])
    assert torch.isnan(together[1]).any()
    for lane in (0, 2):
        assert torch.equal(together[lane], moved([lane])[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_a_state_of_torchs_optimizer_is_taken_up(name, momentum):
    given, half = config(name, momentum=momentum), STEPS // 2
    twin = network()
    before = train_with_torch(name, twin, given, rates()[:half])
    model = network()
    model.load_state_dict(twin.state_dict())
    optimizer = make_optimizer(model, given)
    optimizer.load_state_dict(stored(before.state_dict()))
    train(optimizer, model, rates()[half:], first=half)
    fresh = network()
    fresh.load_state_dict(model.state_dict())
    for step, rate in enumerate(rates()[half:], half):
        before.param_groups[0]["lr"] = before.param_groups[1]["lr"] = rate
        before.zero_grad()
        loss(twin, step).backward()
        before.step()
    assert_same(model, twin, 1e-12)


def stored(state):
    """What a checkpoint gives back of a state."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_state_goes_on_bit_for_bit(name):
    model, given = network(), config(name)
    optimizer = make_optimizer(model, given)
    train(optimizer, model, rates())
    weights, state = stored(model.state_dict()), stored(optimizer.state_dict())
    train(optimizer, model, rates(), first=STEPS)
    twin = network()
    twin.load_state_dict(weights)
    other = make_optimizer(twin, given)
    other.load_state_dict(state)
    train(other, twin, rates(), first=STEPS)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_weight_decay_reaches_weights_only():
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(model, config("adamw", weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.begin([[0.1]])
    optimizer.step(0)
    for value, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(value, old * (1 - 0.1 * 0.5) if old.ndim >= 2 else old)


def test_a_models_parameters_keep_their_values_and_layout():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flat = Flat.lone(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    # A conv layer's filters stay channels_last, which a CPU's kernels are fastest at.
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    flat.values.zero_()
    assert not any(p.any() for p in model.parameters())


def test_an_older_run_resumes():
    trial = Alone(load({"name": "wine"}, seed=0), max_epochs=3)
    given = {"dense_units": 8, "optimizer": "adam", "learning_rate": 0.01}
    mlp.train(given, trial)
    resumed = trial.resumed(1)
    resumed.state["optimizer"] = as_torch_had_it(given, trial.data, resumed.state)
    mlp.train(given, resumed)
    for now, before in zip(resumed.reports, trial.reports[1:], strict=True):
        assert now["val_loss"] == before["val_loss"]


def as_torch_had_it(given, data, state):
    """The state of torch.optim.Adam that holds the same as ours."""
    model = mlp.build(given, data)
    optimizer = torchs("adam", model, complete("mlp", given))
    ours, start = state["optimizer"], 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            part = slice(start, start := start + p.numel())
            kept = {"exp_avg": ours["mean"][part].view_as(p), "exp_avg_sq": ours["square"][part].view_as(p)}
            optimizer.state[p] = {"step": torch.tensor(float(ours["steps"])), **kept}
    return stored(optimizer.state_dict())


def test_training_does_not_import_torchs_compiler():
    code = (
        "import sys\n"
        "from trainables import cnn; from trainables.alone import Alone; from trainables.data import load\n"
        "trial = Alone(load({'name': 'digits', 'limit': 100}, seed=0), max_epochs=1)\n"
        "cnn.train({'filters': 2, 'optimizer': sys.argv[1]}, trial)\n"
        "sys.exit(' '.join(sorted({'torch._dynamo', 'torch._inductor', 'sympy'} & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "adam"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
