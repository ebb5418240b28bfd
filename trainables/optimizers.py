"""Optimizers and learning-rate schedules.

The optimizers are torch's formulas without its torch.optim, whose first use costs every process two seconds (it
imports torch's compiler). They move one model, or all lanes of a stacked one at once, each lane with its own rate,
momentum and penalties.

A schedule is a formula, not an object that is stepped: the rate of any step follows from the config and the
step's number (and, for plateau, from how often it has cut). So a resumed trial goes on exactly where it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables.flat import Flat

BUFFERS = {
    "sgd": {"momentum": "momentum_buffer"},
    "rmsprop": {"square": "square_avg", "momentum": "momentum_buffer"},
    "adam": {"mean": "exp_avg", "square": "exp_avg_sq"},
    "adamw": {"mean": "exp_avg", "square": "exp_avg_sq"},
}
"""What each optimizer keeps of the steps before, and torch.optim's names for it."""

KEPT = 0.999
"""How much of the mean square adam and adamw keep a step: beta2."""
KEPT_BY_RMSPROP = 0.99
EPS = 1e-8


def make_optimizer(model: nn.Module, config: Mapping[str, Any]) -> Optimizer:
    """Return the config's optimizer of a lone model, whose parameters become views of one buffer."""
    return Optimizer(Flat.lone(model), [config])


class Optimizer:
    """sgd, rmsprop, adam or adamw over the rows of a Flat; weight decay and l1 reach weights only.

    begin(rates) once an epoch, then after each backward pass step(0), step(1), ...

    Args:
        flat: The parameters: a row a trial.
        configs: A complete config a row; all name the same optimizer.
        fused: Whether to use torch's fused kernels, one call a row; None: on a CPU, where they are the faster.
    """

    def __init__(self, flat: Flat, configs: Sequence[Mapping[str, Any]], *, fused: bool | None = None) -> None:
        self.flat, self.configs, self.name = flat, configs, configs[0]["optimizer"]
        self.buffers = {name: torch.zeros_like(flat.values) for name in BUFFERS[self.name]}
        self.steps = [0] * len(configs)
        # Views of the parameters' own parts, all rows together and one by one: made once, not at each step.
        self.values, *buffers = map(flat.parts, (flat.values, *self.buffers.values()))
        self.of_rows = [
            ([value[row] for value in self.values], [[part[row] for part in buffer] for buffer in buffers])
            for row in range(len(configs))
        ]
        on_cpu = flat.values.device.type == "cpu"
        self.fused = self.name != "rmsprop" and (on_cpu if fused is None else fused)
        self.l1, self.decay, self.momentum = (self._column(name) for name in ("l1", "weight_decay", "momentum"))
        self.rates: Sequence[Sequence[float]] = []
        self.tables: dict[str, Tensor] = {}

    def _column(self, parameter: str) -> Tensor | None:
        """Return a parameter of every row, (L, 1) on the device; None where it is 0 in all."""
        values = [float(config[parameter]) for config in self.configs]
        return self.flat.values.new_tensor(values)[:, None] if any(values) else None

    def begin(self, rates: Sequence[Sequence[float]]) -> None:
        """Take the rates of the coming steps: at once, so that no step copies to the device.

        Args:
            rates: Of each row, the learning rate of each step.
        """
        self.rates = rates
        if not self.fused:
            self.tables = self._tables()

    def _tables(self) -> dict[str, Tensor]:
        """Return what the formulas need of each step's number, (steps, L, 1) on the device."""
        rows = list(zip(self.configs, self.rates, self.steps, strict=True))
        tables = {"rate": [list(rates) for _, rates, _ in rows]}
        if self.name == "adamw":
            tables["keep"] = [[1 - rate * config["weight_decay"] for rate in rates] for config, rates, _ in rows]
        if self.name in ("adam", "adamw"):
            tables["rate"] = [
                [rate / (1 - config["momentum"] ** t) for t, rate in enumerate(rates, done + 1)]
                for config, rates, done in rows
            ]
            tables["root"] = [
                [math.sqrt(1 - KEPT**t) for t, _ in enumerate(rates, done + 1)] for _, rates, done in rows
            ]
        return {name: self.flat.values.new_tensor(table).T[:, :, None] for name, table in tables.items()}

    def step(self, number: int) -> None:
        """Move the parameters by the gradients that a backward pass left at them.

        Args:
            number: Counted from 0 since `begin`.
        """
        grads = self.flat.collect()
        if self.l1 is not None:
            for value, grad in zip(self.values, grads[: self.flat.places.weights], strict=False):
                grad.addcmul_(value.sign(), self.l1)
        self.steps = [done + 1 for done in self.steps]
        if self.fused:
            for row, rates in enumerate(self.rates):
                self._step_fused(row, [grad[row] for grad in grads], rates[number])
        else:
            self._step_all(torch.cat(grads, 1), {name: table[number] for name, table in self.tables.items()})

    def _step_fused(self, row: int, grads: list[Tensor], rate: float) -> None:
        """Move one row by the kernels that torch.optim calls as well: the weights, then the others."""
        config, end = self.configs[row], self.flat.places.weights
        values, kept = self.of_rows[row]
        for part, decay in ((slice(None, end), float(config["weight_decay"])), (slice(end, None), 0.0)):
            now = (values[part], grads[part], [buffer[part] for buffer in kept])
            if self.name == "sgd":
                _sgd(*now, rate, decay, float(config["momentum"]))
            else:
                _adam(self.name, *now, rate, decay, float(config["momentum"]), self.steps[row])

    def _step_all(self, grads: Tensor, now: Mapping[str, Tensor]) -> None:
        """Move all rows by a few operations, however many there are."""
        values, momentum = self.flat.values, 0.0 if self.momentum is None else self.momentum
        if self.decay is not None and self.name == "adamw":
            _of_weights(self.flat, values).mul_(now["keep"])
        elif self.decay is not None:
            _of_weights(self.flat, grads).addcmul_(_of_weights(self.flat, values), self.decay)
        if self.name == "sgd":
            moved = self.buffers["momentum"].mul_(momentum).add_(grads)
        elif self.name == "rmsprop":
            square = self.buffers["square"].mul_(KEPT_BY_RMSPROP).addcmul_(grads, grads, value=1 - KEPT_BY_RMSPROP)
            moved = self.buffers["momentum"].mul_(momentum).addcdiv_(grads, square.sqrt().add_(EPS))
        else:
            mean = self.buffers["mean"]
            mean.add_((grads - mean).mul_(1 - momentum))
            square = self.buffers["square"].mul_(KEPT).addcmul_(grads, grads, value=1 - KEPT)
            moved = mean / square.sqrt().div_(now["root"]).add_(EPS)
        values.addcmul_(moved, now["rate"], value=-1)

    def state_dict(self, row: int = 0) -> dict[str, Any]:
        """Return what a row keeps of the steps before: tensors (P,), not copies, and the number of steps."""
        return {"steps": self.steps[row], **{name: buffer[row] for name, buffer in self.buffers.items()}}

    def load_state_dict(self, state: Mapping[str, Any], row: int = 0) -> None:
        """Go on from what `state_dict` returned, or from what torch.optim's did, as older checkpoints have it."""
        if "param_groups" in state:
            state = self._from_torch(state["state"])
        self.steps[row] = state["steps"]
        for name, buffer in self.buffers.items():
            buffer[row].copy_(state[name])

    def _from_torch(self, state: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        """Return torch.optim's state of each parameter, weights first, as a row; zeros where it kept nothing."""
        places = self.flat.places
        rows = {name: torch.zeros_like(buffer[0]) for name, buffer in self.buffers.items()}
        for name, theirs in BUFFERS[self.name].items():
            for number, place in enumerate(places):
                kept = state.get(number, {}).get(theirs)
                if kept is not None:
                    rows[name][place.start : place.stop] = place.flattened(kept)
        return {"steps": int(state.get(0, {}).get("step", 0)), **rows}


def _sgd(
    values: list[Tensor],
    grads: list[Tensor],
    buffers: list[list[Tensor]],
    rate: float,
    decay: float,
    momentum: float,
) -> None:
    torch._fused_sgd_(
        values,
        grads,
        buffers[0] if momentum else [],
        weight_decay=decay,
        momentum=momentum,
        lr=rate,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )


def _adam(
    name: str,
    values: list[Tensor],
    grads: list[Tensor],
    buffers: list[list[Tensor]],
    rate: float,
    decay: float,
    momentum: float,
    step: int,
) -> None:
    kernel = {"adam": torch._fused_adam_, "adamw": torch._fused_adamw_}[name]
    kernel(
        values,
        grads,
        *buffers,
        [],
        [torch.tensor(float(step))] * len(values),
        lr=rate,
        beta1=momentum,
        beta2=KEPT,
        weight_decay=decay,
        eps=EPS,
        amsgrad=False,
        maximize=False,
    )


def _of_weights(flat: Flat, rows: Tensor) -> Tensor:
    """Return the part of rows (L, P) that the penalties reach."""
    return rows[:, : flat.places.decayed]


class Schedule:
    """The learning rate of every step of a trial.

    cosine, one_cycle and the warm-up change at every step; step and exponential every so many steps as an epoch has,
    counted from the warm-up's end; manual and plateau at an epoch's first step.

    Args:
        config: A complete config.
        epochs: The horizon: how many epochs the trial trains in all.
        steps_per_epoch: Optimizer steps an epoch.
    """

    def __init__(self, config: Mapping[str, Any], epochs: int, steps_per_epoch: int) -> None:
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.total = epochs * steps_per_epoch
        self.warmup = min(round(config["warmup_epochs"] * steps_per_epoch), self.total)
        self.best, self.bad_epochs, self.cuts = math.inf, 0, 0

    def rate(self, step: int) -> float:
        """Return the rate of a step, counted from 0 over the whole trial."""
        schedule, peak = self.config["lr_schedule"], self.config["learning_rate"]
        if not isinstance(schedule, str):
            epoch = step // self.steps_per_epoch + 1
            return float([rate for start, rate in schedule if start <= epoch][-1])
        if schedule == "one_cycle":
            return peak * one_cycle(step, self.total, self.warmup or 0.3 * self.total)
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        return peak * self._factor(schedule, step - self.warmup)

    def of_epoch(self, epoch: int) -> list[float]:
        """Return the rates of the steps of an epoch, which is counted from 1."""
        first = (epoch - 1) * self.steps_per_epoch
        return [self.rate(step) for step in range(first, first + self.steps_per_epoch)]

    def _factor(self, schedule: str, step: int) -> float:
        """Return what the rate is multiplied by, `step` steps after the warm-up."""
        epoch = step // self.steps_per_epoch
        if schedule == "cosine":
            return (1 + math.cos(math.pi * step / (self.total - self.warmup))) / 2
        powers = {
            "constant": 0,
            "step": epoch // self.config["step_epochs"],
            "exponential": epoch,
            "plateau": self.cuts,
        }
        return float(self.config["gamma"] ** powers[schedule])

    def observe(self, loss: float | None) -> None:
        """Take note of an epoch's loss, for plateau.

        It cuts after more than plateau_patience epochs without a lower loss; lower means by at least 0.01 %,
        as in torch's ReduceLROnPlateau.
        """
        if loss is not None and loss < self.best * (1 - 1e-4):
            self.best, self.bad_epochs = loss, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.config["plateau_patience"]:
            self.bad_epochs, self.cuts = 0, self.cuts + 1

    def state_dict(self) -> dict[str, float]:
        """Return what plateau has seen; everything else follows from the config."""
        return {"best": self.best, "bad_epochs": self.bad_epochs, "cuts": self.cuts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.best, self.bad_epochs, self.cuts = state["best"], state["bad_epochs"], state["cuts"]


def one_cycle(step: int, total: int, rise: float) -> float:
    """Return the one-cycle factor: from 1/25 up to 1 over `rise` steps, then down to 1/250,000.

    As torch's OneCycleLR with cosine annealing; after Smith and Topin, 2017 (arXiv:1708.07120). Of fewer than 4 steps
    in all the first is at the peak, where torch's begins on the way down.
    """
    top = max(rise - 1, 0)
    if step < top:
        return _between(1 / 25, 1, step / top)
    return _between(1, 1 / 250_000, (step - top) / max(total - 1 - top, 1))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
