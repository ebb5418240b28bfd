"""The documentation is true: its code parses and loads, its lists are those of the code, its links lead somewhere.

`python tests/test_docs.py --write` writes anew what is generated: docs/commands.md and docs/parameters.md.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from trainables.parameters import as_markdown
from tuner.cli.main import make_app
from tuner.run import run
from tuner.spec import Sweep, load_sweep
from tuner.spec.metrics import METRICS

ROOT = Path(__file__).parents[1]
DOCS, EXAMPLES = ROOT / "docs", ROOT / "docs" / "examples"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def named(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    """Return the code blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def code(language):
    """Return every block of a language as a test's parameters, named by its page and place."""
    return [
        pytest.param(text, id=f"{named(page)}-{place}")
        for page in PAGES
        for place, text in enumerate(blocks(page, language), start=1)
    ]


def test_the_pages_that_must_be_there_are():
    needed = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    needed |= {f"docs/{name}.md" for name in ("architecture", "commands", "frames", "parameters")}
    assert needed <= {named(page) for page in PAGES}


# -- code --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", code("toml"))
def test_toml_parses_and_sweeps_load(text, tmp_path):
    tables = tomllib.loads(text)
    if "sweep" in tables:
        for example in EXAMPLES.glob("*.py"):
            shutil.copy(example, tmp_path)
        (tmp_path / "sweep.toml").write_text(text)
        load_sweep(tmp_path / "sweep.toml")


@pytest.mark.parametrize("text", code("python"))
def test_python_compiles(text):
    ast.parse(text)


def test_there_is_code_to_look_at():
    # A pattern that no longer matches would pass every test above.
    assert len(code("toml")) >= 4
    assert len(code("python")) >= 3


@pytest.mark.parametrize(
    "name", ["own_images.toml", "own_function.toml", "own_function.py", "grid.toml", "conditional.toml"]
)
def test_the_readme_shows_what_the_example_runs(name):
    text = (EXAMPLES / name).read_text()
    # Without what only the file needs: a comment or a docstring that says how to run it.
    body = re.sub(r'\A(""".*?"""|(#.*\n)+)\s*', "", text, flags=re.DOTALL if name.endswith(".py") else 0)
    language = "python" if name.endswith(".py") else "toml"
    assert body in blocks(ROOT / "README.md", language)


# -- links and commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s#]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


# A decision may speak of what is not there yet, or no longer.
@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "decisions"], ids=named)
def test_every_command_that_is_named_exists(page):
    named_in_code = re.findall(r"(?:^|[`\s/])tuner ([a-z]+)(?= |`|$)", "\n".join(code_of(page)), re.MULTILINE)
    assert set(named_in_code) <= set(commands())


def code_of(page):
    """Return a page's blocks and its inline code."""
    text = page.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?<=\n\n)(?:    .*\n)+", text)
    return [*fenced, *indented, *re.findall(r"`([^`\n]+)`", text)]


# -- generated pages ---------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Return the command line's commands by name."""
    root: Any = typer.main.get_command(make_app())
    return dict(root.commands)


def command_paths() -> Iterator[list[str]]:
    """Yield the words of every command: [], [run], ..., [list], [list, trainables], ..."""
    yield []
    for name, command in commands().items():
        yield [name]
        yield from ([name, inner] for inner in getattr(command, "commands", ()))


def commands_page() -> str:
    """Return docs/commands.md: what --help says of every command."""
    head = "# Commands\n\n<!-- Written by `python tests/test_docs.py --write`; a test keeps it equal to --help. -->\n"
    sections = [head]
    for words in command_paths():
        shown = CliRunner().invoke(make_app(), [*words, "--help"], prog_name="tuner").output
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        text = "\n".join(line.rstrip() for line in plain.strip("\n").splitlines())
        sections.append(f"\n## {' '.join(['tuner', *words])}\n\n```text\n{text}\n```\n")
    return "".join(sections)


GENERATED = {"commands.md": commands_page, "parameters.md": as_markdown}


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_current(name):
    # If this fails, run: python tests/test_docs.py --write
    assert (DOCS / name).read_text() == GENERATED[name]()


# -- frames ------------------------------------------------------------------------------------------------------------


def table(heading, columns=3):
    """Return the rows of the first table after a heading of docs/frames.md, without backticks."""
    text = (DOCS / "frames.md").read_text().split(heading, 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE).group().splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")][:columns] for line in lines]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A run for classes, and one for values."""
    tables = {"max_epochs": 1, "space": {"learning_rate": 0.01}, "search": {"strategy": "random", "trials": 1}}
    sweeps = {
        "classification": Sweep(trainable="mlp", data={"name": "wine"}, **tables),
        "regression": Sweep(trainable="mlp", data={"name": "diabetes", "limit": 100}, **tables),
    }
    storage = tmp_path_factory.mktemp("runs")
    return {task: run(sweep, storage=storage, name=task, backend="inline") for task, sweep in sweeps.items()}


def folded(frame):
    """Return a frame's columns with their types as documented: config.<parameter> for all of a family."""
    families = {"config": "parameter", "best": "metric", "last": "metric"}
    rows = {}
    for name in frame.columns:
        family = families.get(name.partition(".")[0]) if "." in name else None
        rows[f"{name.partition('.')[0]}.<{family}>" if family else name] = str(frame[name].dtype)
    return rows


def test_every_column_of_trials_is_documented(results):
    documented = {name: kind for name, kind, _ in table("## results.trials")}
    real = folded(results["classification"].trials) | {"config.<parameter>": "as written"}
    assert list(documented.items()) == list(real.items())


@pytest.mark.parametrize(("task", "heading"), [("classification", "For classes:"), ("regression", "For values:")])
def test_every_column_of_epochs_is_documented(results, task, heading):
    metrics, epochs = table(heading), results[task].epochs
    documented = {}
    for name, kind, _ in table("## results.epochs"):
        documented |= {metric: kind for metric, *_ in metrics} if name == "<metric>" else {name: kind}
    assert list(documented.items()) == list(folded(epochs).items())
    # Which way is better is what a sweep takes it to be.
    better = {name: {"higher": "max", "lower": "min"}[way] for name, way, _ in metrics if way}
    assert better == METRICS[task]
    assert f"| `{next(iter(METRICS[task]))}`" in (DOCS / "frames.md").read_text()


if __name__ == "__main__":
    assert sys.argv[1:] == ["--write"], "usage: python tests/test_docs.py --write"
    for file, page in GENERATED.items():
        (DOCS / file).write_text(page())
        print(DOCS / file)
