"""docs/search.md, written from the benchmark's JSON: every figure in it is one of a file in benchmarks/results/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def write_page(page: Path, main: Path, held_out: Path) -> None:
    """Write docs/search.md.

    Args:
        page: The file.
        main: The JSON of the whole benchmark.
        held_out: The JSON of the functions that are held out; left out of the page where it is missing.
    """
    found = json.loads(main.read_text()) if main.exists() else None
    other = json.loads(held_out.read_text()) if held_out.exists() else None
    if found is None:
        return
    parts = [(HERE / "page_head.md").read_text(), _measured(found), _strategies(found), _stopping(found)]
    if other is not None:
        parts.append(_held_out(other))
    parts += [_tasks(found, other), (HERE / "page_method.md").read_text()]
    page.write_text("\n".join(part.strip() + "\n" for part in parts if part))


def as_text(found: dict[str, Any]) -> str:
    """Return the main figures for a terminal."""
    at = list(next(iter(found["ranks"].values())))
    lines = [f"{'mean rank at':24}" + "".join(f"{n:>8}" for n in at) + f"{'regret':>10}"]
    first = str(found["facts"]["concurrency"][0])
    for name in _by_rank(found, first):
        ranks = "".join(f"{found['ranks'][first][n]['mean'][name]:8.2f}" for n in at)
        lines.append(f"{name:24}{ranks}{found['median_regret'][name][first][at[-1]]:10.4g}")
    lines += [
        f"{'holds' if claim['holds'] else 'FAILS'}: {claim['text']}: {claim['measured']}" for claim in found["claims"]
    ]
    return "\n".join(lines)


def _by_rank(found: dict[str, Any], workers: str) -> list[str]:
    last = list(found["ranks"][workers])[-1]
    mean = found["ranks"][workers][last]["mean"]
    return sorted(mean, key=lambda name: float(mean[name]))


def _measured(found: dict[str, Any]) -> str:
    rows = [(claim["text"], claim["measured"], "yes" if claim["holds"] else "**no**") for claim in found["claims"]]
    return "## What must hold\n\n" + _table(("requirement", "measured", "holds"), rows)


def _strategies(found: dict[str, Any]) -> str:
    facts = found["facts"]
    parts = [
        "## Strategies side by side",
        f"{facts['seeds']} seeds, {facts['trials']} trials a run, {len(found['tasks'])} tasks. {_made_with(facts)}",
        _rank_table(found),
        _ranks_told(found),
        "![Mean ranks, with what cannot be told from the best](search/ranks.png)",
        _regret_table(found),
        _curve_pictures(facts),
        _failing_table(found),
        _final_table(found),
    ]
    return "\n\n".join(part.strip() for part in parts if part)


def _made_with(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    return f"Python {facts['python']}, {versions}; {facts['cores']} cores. Made by `{facts['command']}`."


def _rank_table(found: dict[str, Any]) -> str:
    columns = [(w, n) for w in found["ranks"] for n in found["ranks"][w]]
    head = ["mean rank", *(f"{n} trials, {_workers(w)}" for w, n in columns)]
    rows = []
    for name in _by_rank(found, columns[0][0]):
        rows.append([name, *(f"{found['ranks'][w][n]['mean'][name]:.2f}" for w, n in columns)])
    return _table(head, rows)


def _ranks_told(found: dict[str, Any]) -> str:
    lines = []
    for workers, by_trials in found["ranks"].items():
        p = ", ".join(f"{told['p']:.1g} at {n}" for n, told in by_trials.items())
        distance = next(iter(by_trials.values()))["critical_difference"]
        lines.append(f"{_workers(workers)}: Friedman's p {p} trials; critical difference {distance:.2f}")
    return (
        "A task's rank is that of the median regret over its seeds. "
        + ". ".join(lines)
        + " (Nemenyi, 5 %; J. Demšar, [Statistical Comparisons of Classifiers over Multiple Data Sets]"
        "(https://www.jmlr.org/papers/v7/demsar06a.html), JMLR 7, 2006): closer ranks may be chance."
    )


def _workers(workers: str) -> str:
    return "1 worker" if workers == "1" else f"{workers} workers"


def _regret_table(found: dict[str, Any]) -> str:
    against = found["against_random"]
    counts = list(found["ranks"])
    last = str(found["facts"]["trials"])
    has_last = last in found["median_regret"][found["competitors"][0]][counts[0]]
    at = last if has_last else list(found["ranks"][counts[0]])[-1]
    head = [
        "",
        *(f"median regret, {_workers(w)}" for w in counts),
        "better than random by",
        f"with {counts[-1]} workers by",
    ]
    head += ["of which is lost", "a proposal takes"]
    rows = []
    for name in _by_rank(found, counts[0]):
        own = against.get(name, {})
        gains = own.get("improvement", {})
        lost = own.get("lost_to_concurrency")
        rows.append(
            [
                name,
                *(f"{found['median_regret'][name][w][at]:.3g}" for w in counts),
                _percent(gains.get(counts[0])),
                _percent(gains.get(counts[-1])),
                _percent(lost),
                f"{found['ask_ms'][name]['median']:.0f} ms",
            ]
        )
    told = (
        f"Regret after {at} trials: 0 is the optimum, 1 what half of all random configs reach; the median over the "
        "tasks of the median over the seeds. Better than random by: the mean over the tasks of 1 - regret / random's. "
        "A proposal's time is the median over all proposals of the runs, on cores that had other work."
    )
    return _table(head, rows) + "\n\n" + told


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _curve_pictures(facts: dict[str, Any]) -> str:
    return "\n\n".join(
        f"![Median regret after each trial, one panel a task, {_workers(str(w))}](search/regret_{w}.png)"
        for w in facts["concurrency"]
    )


def _failing_table(found: dict[str, Any]) -> str:
    if not found["failing"]:
        return ""
    tasks = list(found["failing"])
    rows = [[name, *(_percent(found["failing"][task][name]) for task in tasks)] for name in found["competitors"]]
    told = "Share of the trials 20 to 59 that failed, where configs of some region do; one worker:"
    return told + "\n\n" + _table(["", *tasks], rows)


def _final_table(found: dict[str, Any]) -> str:
    names = found["competitors"]
    first = str(found["facts"]["concurrency"][0])
    last = list(found["ranks"][first])[-1]
    rows = []
    for task, by_name in found["per_task"].items():
        medians = {name: by_name[name][first][last][1] for name in names}
        best = min(medians.values())
        rows.append([task, *(f"**{v:.2g}**" if v <= best else f"{v:.2g}" for v in medians.values())])
    told = f"Median regret of each task after {last} trials, {_workers(first)}; the best is bold:"
    return told + "\n\n" + _table(["", *names], rows)


def _stopping(found: dict[str, Any]) -> str:
    if not found.get("stopping"):
        return ""
    rows = []
    for rule, by_table in found["stopping"].items():
        for table, told in by_table.items():
            lost, shares, orders = sorted(told["points_lost"]), sorted(told["epochs_share"]), told["orders"]
            rows.append(
                [
                    rule,
                    table,
                    f"{told['trials']}",
                    f"{lost[orders // 2]:.2f} ({lost[-1]:.2f})",
                    f"{100 * shares[orders // 2]:.0f} % ({100 * shares[-1]:.0f} %)",
                    f"{told['within_half_a_point']} of {orders}",
                    f"{told['winner_kept']} of {orders}",
                ]
            )
    head = (
        "rule",
        "table",
        "trials",
        "points lost",
        "epochs trained",
        "within 0.5 points",
        "the winner trained to its best",
    )
    return "\n\n".join(
        [
            "## Stopping rules on recorded curves",
            "Each rule with its defaults, the trials of a table in random arrival orders on 4 workers; the median of "
            "the orders, and the worst in brackets. A point is one of accuracy in a hundred, or of R2. The last two "
            "are made: a first epoch that says nothing, and curves of which the best begin slowest.",
            _table(head, rows),
            "![Points lost against epochs trained](search/stopping.png)",
        ]
    )


def _held_out(found: dict[str, Any]) -> str:
    head = "## Functions outside of the list"
    told = (
        "auto's first constants were chosen on the list above, and ways to share its turns compared on the first six "
        "of these, too; the others, from michalewicz5 on, were added then. auto's close look came later, when all of "
        "these had been run with auto before it, and once with a variant of it: it was chosen on twelve functions more "
        "(benchmarks/search/development.py), and among its variants also by what they did on the list (decision 13). "
        "So nothing was chosen on these since, but they are not unseen. "
        f"{found['facts']['seeds']} seeds. {_made_with(found['facts'])}"
    )
    rows = [(c["text"], c["measured"], "yes" if c["holds"] else "**no**") for c in found["claims"]]
    claimed = _table(("requirement", "measured", "holds"), rows) if rows else ""
    return "\n\n".join(part for part in (head, told, _rank_table(found), claimed, _final_table(found)) if part)


def _tasks(found: dict[str, Any], other: dict[str, Any] | None) -> str:
    every = {**found["tasks"], **(other["tasks"] if other else {})}
    rows = [[name, str(told["parameters"]), _task_text(told)] for name, told in every.items()]
    return "## The tasks\n\n" + _table(["task", "parameters", "what it is"], rows)


def _task_text(told: dict[str, Any]) -> str:
    if "text" in told:
        return str(told["text"])
    return (
        f"recorded: {told['configs']} configs, {told['failed']} of which failed; rank correlation of a config with its "
        f"nearest {told['agreement']:.2f}"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
