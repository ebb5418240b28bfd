"""What a person may want to put right before a sweep starts: a sentence each, with key, value and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.constraints import PARAMS, read
from tuner.disk import size
from tuner.machine import bf16_unit, memory_bytes
from tuner.space import Uniform
from tuner.spec import Sweep
from tuner.spec.checks import highest
from tuner.stopping import Asha
from tuner.strategies import RANDOM_START as LEARNING
from tuner.strategies import make_strategy

if TYPE_CHECKING:
    from tuner.plan import Plan
    from tuner.preflight import Collapsed

_NAMED = 3  # collapsed configs that a warning names
_DECADES = 100  # two of them
_CROSSING = 10  # max_epochs from which on a rule may well wait for epoch 3
_LOG_SCALED = ("learning_rate", "weight_decay")


def cautions(plan: Plan, written: Sweep) -> Iterator[str]:
    """Yield the warnings of a plan; a good sweep has none.

    Args:
        plan: The plan, with its resources resolved.
        written: The sweep as its author wrote it.
    """
    if plan.impossible:
        yield plan.impossible
    if plan.data_problem:
        yield plan.data_problem
    yield from _search(plan)
    yield from _linear_scales(written)
    yield from _stopping(written, plan.trials)
    yield from _waiting(plan)
    yield from _concurrency(plan, written)
    yield from _models(plan)
    yield from _budgets(plan)
    yield from _constraints(plan)
    if plan.sweep.resources.precision == "bf16" and not plan.sweep.resources.gpus_per_trial and not bf16_unit():
        yield "resources.precision: bf16 may be slower than fp32 on a CPU without AMX or AVX-512 BF16, such as this."


def _constraints(plan: Plan) -> Iterator[str]:
    found = plan.preflight
    if found is None or found.smallest is None or found.largest is None:
        yield from _uncounted(plan)
        return
    for one in read(plan.sweep.constraints):
        if one.name == PARAMS and not one.holds(found.smallest.parameters) and not one.holds(found.largest.parameters):
            low, high = found.smallest.parameters, found.largest.parameters
            yield (
                f"sweep.constraints: the models of the space have {low:,} to {high:,} parameters, and neither end is "
                f"{one.sign} {one.limit:,.0f}, so all trials may fail. Change the constraint, or the space."
            )


def _uncounted(plan: Plan) -> Iterator[str]:
    """Yield which key asks for weights that only the trainable itself can tell."""
    found = plan.preflight
    if plan.data_problem or (found and found.collapsed):
        return
    keys = ["sweep.constraints"] * any(one.name == PARAMS for one in read(plan.sweep.constraints))
    for key in [*keys, *["sweep.objectives"] * (PARAMS in plan.sweep.objectives)]:
        yield (
            f"{key}: the weights of this trainable's models cannot be counted here, so {PARAMS} is known only where it "
            f"reports it. Call trial.report({PARAMS}=...), or leave it out."
        )


def _budgets(plan: Plan) -> Iterator[str]:
    asked = plan.sweep.resources
    if asked.gpu_hours_budget is not None and not asked.gpus_per_trial:
        yield (
            f"resources.gpu_hours_budget: trials have no GPU here (gpus_per_trial = 0), so none of its "
            f"{asked.gpu_hours_budget:g} GPU-hours is ever spent. Set time_budget_s or epoch_budget."
        )


def _search(plan: Plan) -> Iterator[str]:
    sweep, trials = plan.sweep, plan.sweep.search.trials
    if plan.configs and _has_more(sweep):
        yield f"search.trials: {plan.note}. Raise it to run more of them."
    elif not plan.configs and plan.proposals < trials:
        left = " that no earlier run has tried" if plan.learnt else ""
        yield (
            f"search.trials: the space has only {plan.proposals:,} distinct configs{left}, so that many run, "
            f"not {trials:,}. Lower it, or widen the space."
        )
    start = (sweep.search.initial_random or 0) + len(sweep.search.points)
    if plan.strategy not in LEARNING or plan.proposals < trials:  # a space that is run whole needs no model
        return
    if plan.learnt:  # the model has trials before the first one of this sweep
        return
    if plan.proposals <= start:
        yield (
            f"search.initial_random: the first {start} configs are random or given, and there are only "
            f"{plan.proposals}, so this is a random search. Raise search.trials, or lower search.initial_random."
        )
    elif plan.trials <= (sweep.resources.max_concurrent or 1):
        yield (
            f"resources.max_concurrent: all {plan.trials} trials start at once, so {plan.strategy} learns from none of "
            f"them. Raise search.trials, or set max_concurrent = {max(1, plan.trials // 4)}."
        )


def _has_more(sweep: Sweep) -> bool:
    """Return whether the strategy would propose more configs if it were let."""
    one_more = sweep.search.model_copy(update={"trials": sweep.search.trials + 1})
    total = make_strategy(sweep.model_copy(update={"search": one_more})).total
    return total is not None and total > sweep.search.trials


def _linear_scales(sweep: Sweep) -> Iterator[str]:
    for leaf in sweep.space.leaves():
        domain = leaf.domain
        scaled = leaf.name == "lr" or leaf.name.endswith("_lr") or any(n in leaf.name for n in _LOG_SCALED)
        if not scaled or not isinstance(domain, Uniform) or domain.low <= 0:
            continue
        if domain.high >= _DECADES * domain.low * (1 - 1e-9):
            ends = f"[{domain.low:g}, {domain.high:g}]"
            share = 100 * (10 * domain.low - domain.low) / (domain.high - domain.low)
            yield (
                f"{_key(leaf.label)}: on a linear scale, only {share:.2g} % of the trials get a value from the lowest "
                f"decade of {ends}. Write loguniform = {ends}."
            )


def _stopping(sweep: Sweep, trials: int) -> Iterator[str]:
    for rule in sweep.stopping.rules:
        options = sweep.stopping.options.get(rule, {})
        grace, most = options.get("grace_epochs"), sweep.max_epochs
        if grace is None:
            continue
        first, needs = grace + options.get("patience", 0), "grace_epochs"
        if "patience" in options:
            needs = "grace_epochs + patience"
        if first >= most:
            yield (
                f"stopping.{rule}: {needs} = {first} is not below max_epochs = {most}, so it never stops a trial. "
                "Lower it, or raise max_epochs."
            )
        elif (few := _too_few(rule, options, trials)) is not None:
            yield few
        elif rule in ("asha", "median"):
            yield from _too_early(sweep, rule, grace)
        if rule == "asha" and options.get("brackets", 1) > (races := _brackets(options, most)) >= 1:
            yield (
                f"stopping.asha.brackets: the first rung of bracket {races + 1} is not below max_epochs = {most}, "
                f"so its trials are never stopped. Set it to {races}, or raise max_epochs."
            )


def _too_few(rule: str, options: Mapping[str, Any], trials: int) -> str | None:
    """Return that there are no more trials than a rule needs before it stops the first one."""
    if rule == "asha" and trials <= options["unjudged"]:
        key, spared = "unjudged", f"the first {count(options['unjudged'], 'trial')} are never stopped"
    elif rule == "median" and trials <= options["min_trials"]:
        key, spared = "min_trials", f"a trial is compared only with {options['min_trials']} others or more"
    else:
        return None
    few = f"there {'is' if trials == 1 else 'are'} only {trials}"
    return f"stopping.{rule}.{key}: {spared}, and {few}, so it never stops one. Lower it, or raise search.trials."


def _too_early(sweep: Sweep, rule: str, grace: int) -> Iterator[str]:
    """Yield what may make a rule that compares trials stop the one that would have won."""
    key, warm = f"stopping.{rule}.grace_epochs", _warmup_epochs(sweep)
    if warm >= max(grace, 1):
        yield (
            f"{key}: a trial's learning rate may still be rising at epoch {grace} (warmup_epochs: up to {warm:g}), "
            f"so its rank says little there. Set it to {warm + 1:g} or more."
        )
    elif grace == 1:
        yield (
            f"{key}: at epoch 1 a network is next to untrained and its rank says nothing, yet trials may be stopped "
            "there. Set it to 2 or more."
        )
    elif grace == 2 and rule == "median" and sweep.max_epochs >= _CROSSING:
        yield (
            f"{key}: curves still cross after 2 of {sweep.max_epochs} epochs, and trials that would have won may be "
            "stopped there. Set it to 3 or more."
        )


def _warmup_epochs(sweep: Sweep) -> float:
    """Return the longest warm-up that a trial may have."""
    domains = [leaf.domain for leaf in sweep.space.leaves() if leaf.name == "warmup_epochs"]
    if not domains:
        fixed = sweep.baseline().get("warmup_epochs", 0)
        return fixed if isinstance(fixed, int | float) else 0
    return max(0, *map(highest, domains))  # a user's function may have texts among its options


def _brackets(options: Mapping[str, Any], most: int) -> int:
    """Return in how many of asha's brackets a trial can be stopped."""
    return len(Asha(**options).rungs(most))


def _waiting(plan: Plan) -> Iterator[str]:
    search, side_by_side = plan.sweep.search, plan.sweep.resources.max_concurrent or 1
    most = search.lookahead * search.repeats
    if search.deterministic and most < side_by_side:
        yield (
            f"search.lookahead: with deterministic, only {count(most, 'trial')} may be under way, where {side_by_side} "
            f"fit. Set it to {-(-side_by_side // search.repeats)}, or resources.max_concurrent = {most}."
        )


def _concurrency(plan: Plan, written: Sweep) -> Iterator[str]:
    asked, side_by_side = written.resources.max_concurrent, plan.sweep.resources.max_concurrent
    if plan.impossible or asked is None or side_by_side is None or side_by_side >= min(asked, plan.trials):
        return
    resources = plan.sweep.resources
    each = count(resources.cpus_per_trial, "CPU")
    if resources.gpus_per_trial:
        each += f" and {count(resources.gpus_per_trial, 'GPU')}"
    here = f"{count(plan.cpus, 'CPU')} and {count(plan.gpus, 'GPU')}" if plan.gpus else count(plan.cpus, "CPU")
    yield (
        f"resources.max_concurrent: {count(side_by_side, 'trial')} of {each} fit on {here}, but got ({asked}). "
        "Lower what a trial takes, or leave max_concurrent out."
    )


def _models(plan: Plan) -> Iterator[str]:
    found = plan.preflight
    if found is None:
        return
    if found.collapsed:
        yield (
            f"space: {len(found.collapsed)} of {found.checked} models cannot be built, and such trials would fail: "
            f"{_reasons(found.collapsed)}."
        )
    hungriest, limit = found.hungriest, memory_bytes()
    if hungriest is None or limit is None or plan.sweep.resources.gpus_per_trial:
        return
    side_by_side, each = plan.sweep.resources.max_concurrent or 1, hungriest.memory_bytes or 0
    if each * side_by_side > limit:
        yield (
            f"resources.max_concurrent: {count(side_by_side, 'trial')} of up to {size(each)} "
            f"({_config(hungriest.config)}) need more than the {size(limit)} of memory here. "
            "Lower it, or batch_size, or the largest models."
        )


def _reasons(collapsed: Sequence[Collapsed]) -> str:
    """Return each reason once, with the configs that it is true of; up to _NAMED of them in all."""
    groups: dict[str, list[str]] = {}
    for entry in collapsed[:_NAMED]:
        groups.setdefault(entry.reason, []).append(_config(entry.config))
    more = f"; and {len(collapsed) - _NAMED} more" if len(collapsed) > _NAMED else ""
    return "; ".join(f"{reason} ({'; '.join(configs)})" for reason, configs in groups.items()) + more


def _key(label: str) -> str:
    """Return a leaf's label as the dotted key that it has in a file."""
    return "space." + label.replace("=", ".when.").replace("/", ".")


def count(number: float, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 trial", "1,200 trials"."""
    text = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{text} {one if number == 1 else many or one + 's'}"


def _config(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in config.items()) or "the baseline"
