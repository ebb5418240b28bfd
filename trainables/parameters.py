"""Every parameter of the built-in trainables: what it means, what it may be, where it starts.

Without torch, so that a sweep is checked, and documentation printed, without importing it.
`python -m trainables.parameters` prints docs/parameters.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuner.errors import ConfigError, Problem, nearest

Kind = Literal["number", "whole", "choice", "boolean", "schedule"]

ALL = ("cnn", "resnet", "mlp")
IMAGES = ("cnn", "resnet")
SCHEDULES = ("constant", "step", "exponential", "cosine", "one_cycle", "plateau")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a trainable.

    Args:
        name: As it is written in a space.
        meaning: What it does, and when it is not used.
        usual: The range that is usually searched.
        too_low: What a too low value does; empty for a choice.
        too_high: What a too high value does; empty for a choice.
        trainables: Which trainables have it.
        group: "Training", "Network" or "Data": its place in the documentation.
        kind: What values it takes.
        low: Smallest number it may be, included unless `above`.
        high: The number that it must stay below (never reached); None for no limit.
        above: Whether `low` itself is refused.
        options: The options of a choice.
        differ: How the options differ; empty where values are numbers.
    """

    name: str
    meaning: str
    usual: str
    too_low: str = ""
    too_high: str = ""
    trainables: tuple[str, ...] = ALL
    group: str = "Training"
    kind: Kind = "number"
    low: float = 0
    high: float | None = None
    above: bool = False
    options: tuple[str, ...] = ()
    differ: str = ""

    @property
    def rule(self) -> str:
        """What must hold of a value, in one line."""
        if self.kind == "choice":
            return f"{self.name} must be one of {', '.join(self.options)}"
        if self.kind == "boolean":
            return f"{self.name} must be true or false"
        if self.kind == "schedule":
            schedules = ", ".join(SCHEDULES)
            return f"{self.name} must be one of {schedules}, or a list of [epoch, rate] from epoch 1 on"
        if self.kind == "whole":
            return f"{self.name} must be a whole number, and {self.name} >= {self.low:g} must hold"
        limits = f"{self.low:g} {'<' if self.above else '<='} {self.name}"
        return f"{limits}{'' if self.high is None else f' < {self.high:g}'} must hold"

    def accepts(self, value: Any) -> bool:
        """Whether `value` follows the rule."""
        if self.kind == "choice":
            return isinstance(value, str) and value in self.options
        if self.kind == "boolean":
            return isinstance(value, bool)
        if self.kind == "schedule":
            return value in SCHEDULES if isinstance(value, str) else _is_manual_schedule(value)
        if not _is_number(value) or (self.kind == "whole" and not isinstance(value, int)):
            return False
        enough = value > self.low if self.above else value >= self.low
        return enough and (self.high is None or value < self.high)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_manual_schedule(value: Any) -> bool:
    """Whether `value` is [[1, rate], [epoch, rate], ...] with rising whole epochs and rates above 0."""
    if not isinstance(value, list | tuple) or not value:
        return False
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        return False
    epochs, rates = [pair[0] for pair in value], [pair[1] for pair in value]
    if not all(isinstance(epoch, int) and not isinstance(epoch, bool) for epoch in epochs):
        return False
    rising = all(earlier < later for earlier, later in itertools.pairwise(epochs))
    return epochs[0] == 1 and rising and all(_is_number(rate) and rate > 0 for rate in rates)


_TRAINING = (
    Parameter(
        name="learning_rate",
        meaning="Size of an optimizer's step: the schedule's starting rate (one_cycle: its peak). A manual "
        "schedule gives its own rates, and this one is not used.",
        too_low="Learns slowly; the loss is still falling when the epochs are over.",
        too_high="The loss jumps, grows, or becomes NaN.",
        usual="sgd 1e-3 to 0.5; adam, adamw, rmsprop 1e-4 to 1e-2 (log scale)",
        above=True,
    ),
    Parameter(
        name="batch_size",
        meaning="Samples a step. The last batch of an epoch may be smaller (one lone sample is left out of it).",
        too_low="Slow epochs and noisy steps; needs a lower learning rate. 1 does not go with batch_norm.",
        too_high="Few steps an epoch; needs a higher learning rate, or more epochs; memory.",
        usual="16 to 256, in powers of two",
        kind="whole",
        low=1,
    ),
    Parameter(
        name="optimizer",
        meaning="How gradients become steps.",
        differ="sgd wants a well chosen learning rate and often ends best; adam and rmsprop scale each "
        "weight's step; adamw is adam with the weight decay kept apart from the gradient.",
        usual="sgd, adam, adamw; each with its own range of learning rates",
        kind="choice",
        options=("sgd", "adam", "adamw", "rmsprop"),
    ),
    Parameter(
        name="momentum",
        meaning="How much of the step before is kept: momentum of sgd and rmsprop, beta1 of adam and adamw.",
        too_low="Slow along flat directions; zigzags.",
        too_high="Overshoots and swings; the effective rate is learning_rate / (1 - momentum).",
        usual="0.8 to 0.99 (rmsprop: 0 to 0.9)",
        high=1,
    ),
    Parameter(
        name="weight_decay",
        meaning="L2 penalty on weights (not on biases, nor on batch norm): added to the gradient; adamw "
        "shrinks weights instead.",
        too_low="No regularisation: may overfit.",
        too_high="Weights shrink to nothing: underfits.",
        usual="1e-6 to 1e-2 (log scale; adamw up to 0.1)",
    ),
    Parameter(
        name="l1",
        meaning="L1 penalty on weights (not on biases, nor on batch norm): pushes many of them to zero.",
        too_low="No sparsity.",
        too_high="Most weights vanish: underfits.",
        usual="0, or 1e-7 to 1e-4 (log scale)",
    ),
    Parameter(
        name="dropout",
        meaning="Share of units switched off in a training step, after each dense layer (before the output "
        "where there is none).",
        too_low="No regularisation: may overfit.",
        too_high="Learns slowly: underfits.",
        usual="0 to 0.6",
        high=1,
    ),
    Parameter(
        name="label_smoothing",
        meaning="Share of the target spread over all classes in training. Not used for regression, nor in any metric.",
        too_low="Overconfident probabilities.",
        too_high="Probabilities too flat; the loss suffers.",
        usual="0 to 0.2",
        high=1,
    ),
    Parameter(
        name="class_weights",
        meaning="Weight of each class in the training loss. Not used for regression, nor in any metric.",
        differ="none: each sample counts the same; balanced: each class counts the same, however rare.",
        usual="balanced where classes are uneven and balanced accuracy or F1 matters",
        kind="choice",
        options=("none", "balanced"),
    ),
    Parameter(
        name="lr_schedule",
        meaning="How the learning rate changes over the epochs. The column learning_rate holds the rate of "
        "an epoch's first step.",
        differ="constant; step (times gamma every step_epochs); exponential (times gamma every epoch); "
        "cosine (to 0, every step); one_cycle (learning_rate / 25 up to learning_rate and down to nearly 0, "
        "every step); plateau (times gamma when the validation loss has not fallen for more than "
        "plateau_patience epochs; the training loss where nothing is validated). Manual: [[1, 0.1], [6, "
        "0.01]] is 0.1 from epoch 1 and 0.01 from epoch 6.",
        usual="cosine or one_cycle for a known number of epochs, plateau for an unknown one",
        kind="schedule",
    ),
    Parameter(
        name="gamma",
        meaning="What step, exponential and plateau multiply the rate by.",
        too_low="The rate collapses before anything is learned.",
        too_high="As good as a constant rate.",
        usual="step, plateau 0.1 to 0.7; exponential 0.8 to 0.99",
        high=1,
        above=True,
    ),
    Parameter(
        name="step_epochs",
        meaning="Epochs from one cut of the step schedule to the next.",
        too_low="The rate collapses early.",
        too_high="Never cut within the epochs there are.",
        usual="a third of the epochs",
        kind="whole",
        low=1,
    ),
    Parameter(
        name="plateau_patience",
        meaning="Epochs without a lower loss that the plateau schedule bears before it cuts the rate.",
        too_low="Cuts at the first noise.",
        too_high="Never cuts within the epochs there are.",
        usual="1 to 5",
        kind="whole",
    ),
    Parameter(
        name="warmup_epochs",
        meaning="Epochs over which the rate first rises from nearly 0, every step (1.5 is fine); the "
        "schedule begins after them. In one_cycle: the length of its rise (0: 30 % of the epochs). Not used "
        "with a manual schedule.",
        too_low="High rates may diverge in the first steps.",
        too_high="Epochs are spent at low rates.",
        usual="0 to 5",
    ),
    Parameter(
        name="epochs",
        meaning="Epochs to train, and the schedule's horizon; at most the sweep's max_epochs, which it is "
        "when left out.",
        too_low="Stops while still improving.",
        too_high="Time, and overfitting.",
        usual="5 to 50 for small images",
        kind="whole",
        low=1,
    ),
)

_NETWORK = (
    Parameter(
        name="filters",
        group="Network",
        meaning="Channels of the first conv layer (resnet: of the first stage); doubled a layer (resnet: a stage).",
        too_low="Underfits.",
        too_high="Slow; memory; may overfit.",
        usual="8 to 64",
        trainables=IMAGES,
        kind="whole",
        low=1,
    ),
    Parameter(
        name="conv_layers",
        group="Network",
        meaning="Conv layers, each with twice the channels of the one before; each halves the image, unless "
        "pooling is none.",
        too_low="Sees only small patterns; the dense layers become huge.",
        too_high="The image collapses to nothing (refused, with the most that fit).",
        usual="1 to 3 at 8x8, 2 to 4 at 28x28 and 32x32",
        trainables=("cnn",),
        kind="whole",
        low=1,
    ),
    Parameter(
        name="kernel_size",
        group="Network",
        meaning="Side of the conv filters in pixels. Odd sizes keep an image's size; even ones add a pixel.",
        too_low="1 mixes channels only.",
        too_high="Slow; may overfit.",
        usual="3 or 5",
        trainables=("cnn",),
        kind="whole",
        low=1,
    ),
    Parameter(
        name="pooling",
        group="Network",
        meaning="How each conv layer halves the image.",
        differ="max or avg of 2x2 pixels; stride: the conv layer takes every second pixel (fast); none: the "
        "image keeps its size (slow, and a huge first dense layer).",
        usual="max",
        trainables=("cnn",),
        kind="choice",
        options=("max", "avg", "stride", "none"),
    ),
    Parameter(
        name="blocks",
        group="Network",
        meaning="Residual blocks in each of the three stages: the depth is 6 x blocks + 2 layers.",
        too_low="Underfits.",
        too_high="Slow; wants more epochs.",
        usual="1 to 5 (ResNet-20 has 3)",
        trainables=("resnet",),
        kind="whole",
        low=1,
    ),
    Parameter(
        name="dense_layers",
        group="Network",
        meaning="Dense layers before the output layer.",
        too_low="0: the output layer reads the features directly.",
        too_high="May overfit; hard to train without batch_norm.",
        usual="cnn 0 to 2; mlp 1 to 4",
        trainables=("cnn", "mlp"),
        kind="whole",
    ),
    Parameter(
        name="dense_units",
        group="Network",
        meaning="Units of each dense layer.",
        too_low="Underfits.",
        too_high="Slow; may overfit.",
        usual="32 to 512",
        trainables=("cnn", "mlp"),
        kind="whole",
        low=1,
    ),
    Parameter(
        name="activation",
        group="Network",
        meaning="The nonlinearity after each layer but the last.",
        differ="relu is fast and sound; leaky_relu and elu keep a gradient below 0; gelu is smooth; tanh and "
        "sigmoid saturate, and want fewer layers or batch_norm.",
        usual="relu",
        kind="choice",
        options=("relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid"),
    ),
    Parameter(
        name="batch_norm",
        group="Network",
        meaning="Whether each conv layer (mlp: each dense layer) is followed by batch norm. resnet always has it.",
        differ="true learns faster and bears higher rates; false is cheaper, and better with tiny batches.",
        usual="true",
        trainables=("cnn", "mlp"),
        kind="boolean",
    ),
)

_DATA = (
    Parameter(
        name="augment",
        group="Data",
        meaning="Random change of the training images, anew each epoch.",
        differ="none; flip (left to right, half of the images); crop (moved by up to an eighth of the side); "
        "flip_crop (both); cutout (a square of half the side is blacked out). Digits and text must not be "
        "flipped.",
        usual="crop for digits, flip_crop for photographs",
        trainables=IMAGES,
        kind="choice",
        options=("none", "flip", "crop", "flip_crop", "cutout"),
    ),
    Parameter(
        name="image_size",
        group="Data",
        meaning="Side in pixels that each batch is resized to, for training and measuring; left out: as the data is.",
        too_low="Detail is lost; the conv layers may not fit.",
        too_high="Cost grows with its square.",
        usual="as the data is, or half of it for a fast search",
        trainables=IMAGES,
        kind="whole",
        low=1,
    ),
)

PARAMETERS: dict[str, Parameter] = {p.name: p for p in (*_TRAINING, *_NETWORK, *_DATA)}

_SHARED: dict[str, Any] = {
    "learning_rate": 0.05,
    "batch_size": 64,
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "l1": 0.0,
    "dropout": 0.2,
    "label_smoothing": 0.0,
    "class_weights": "none",
    "lr_schedule": "cosine",
    "gamma": 0.7,
    "step_epochs": 3,
    "plateau_patience": 2,
    "warmup_epochs": 0,
    "activation": "relu",
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "cnn": _SHARED
    | {
        "filters": 32,
        "conv_layers": 2,
        "kernel_size": 3,
        "pooling": "max",
        "dense_layers": 1,
        "dense_units": 128,
        "batch_norm": True,
        "augment": "none",
    },
    "resnet": _SHARED | {"filters": 16, "blocks": 1, "dropout": 0.0, "augment": "none"},
    "mlp": _SHARED | {"dense_layers": 2, "dense_units": 128, "batch_norm": True},
}
"""The baseline config of each trainable. epochs and image_size have no default: left out, they are the
sweep's max_epochs and the data's own size."""


def names(trainable: str) -> list[str]:
    """Return the names of a trainable's parameters, in the order of the documentation."""
    return [p.name for p in PARAMETERS.values() if trainable in p.trainables]


def check(trainable: str, name: str, value: Any) -> str | None:
    """Return the rule that a value breaks, in one line without a full stop; None where it is fine.

    Args:
        trainable: "cnn", "resnet" or "mlp".
        name: The parameter's name.
        value: What a config gives it.
    """
    parameter = PARAMETERS.get(name)
    if parameter is None or trainable not in parameter.trainables:
        return f"{name} is not a parameter of {trainable}"
    return None if parameter.accepts(value) else parameter.rule


def complete(trainable: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config laid over the trainable's defaults.

    Raises:
        ConfigError: With every rule that a value breaks.
    """
    known = names(trainable)
    problems = [
        Problem(name, rule, repr(value), "" if name in known else nearest(name, known))
        for name, value in config.items()
        if (rule := check(trainable, name, value))
    ]
    if problems:
        raise ConfigError("\n".join(problem.sentence(trainable) for problem in problems))
    return DEFAULTS[trainable] | dict(config)


def as_markdown() -> str:
    """Return docs/parameters.md."""
    head = (
        "# Parameters of the built-in trainables\n\n"
        "<!-- Printed by `python -m trainables.parameters`; a test keeps this file equal to it. -->\n\n"
        "Every parameter can be searched or fixed in `[space]`, or set in `[defaults]`; "
        "what is not set has the default below.\n"
    )
    return head + "".join(_group_as_markdown(group) for group in ("Training", "Network", "Data"))


def _group_as_markdown(group: str) -> str:
    entries = [_as_markdown(p) for p in PARAMETERS.values() if p.group == group]
    return f"\n## {group}\n" + "".join(entries)


def _as_markdown(parameter: Parameter) -> str:
    lines = [f"\n### {parameter.name}\n", parameter.meaning, ""]
    if parameter.differ:
        lines += [f"- Options: {parameter.differ}"]
    else:
        lines += [f"- Too low: {parameter.too_low}", f"- Too high: {parameter.too_high}"]
    lines += [
        f"- Usual: {parameter.usual}",
        f"- Rule: {parameter.rule}.",
        f"- Default: {_defaults(parameter)}",
        "",
    ]
    return "\n".join(lines)


def _defaults(parameter: Parameter) -> str:
    """Return "cnn `64`, resnet `64`": which trainables have the parameter, and where each starts."""
    shown = []
    for trainable in parameter.trainables:
        value = DEFAULTS[trainable].get(parameter.name)
        text = "left out" if value is None else f"`{_as_toml(value)}`"
        shown.append(f"{trainable} {text}")
    return ", ".join(shown)


def _as_toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(as_markdown(), end="")
