"""`tuner list`: what there is to choose from: trainables, data sets, search spaces, strategies, stopping rules."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli.arguments import Json

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.text import Text

app = typer.Typer(
    no_args_is_help=True,
    help="List trainables, data, spaces, strategies, rules.",
    epilog="Example: tuner list trainables cnn",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DATA = {
    "digits": "1,797 handwritten digits, 8x8, grey; bundled",
    "breast_cancer": "569 tumours, 30 numbers each, 2 classes; bundled",
    "wine": "178 wines, 13 numbers each, 3 classes; bundled",
    "diabetes": "442 patients, 10 numbers each, a value; bundled",
    "mnist": "70,000 handwritten digits, 28x28, grey; files under root",
    "fashion_mnist": "70,000 pieces of clothing, 28x28, grey; files under root",
    "cifar10": "60,000 photographs, 32x32, colour, 10 classes; files under root",
    "cifar100": "60,000 photographs, 32x32, colour, 100 classes; files under root",
    "images": "your own images: a folder of class folders, at path",
    "table": "your own table: a CSV or Parquet file with a target column, at path",
}

Trainable = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Its parameters, each explained.", show_default=False)
]


@app.command("trainables", epilog="Example: tuner list trainables cnn")
def trainables(name: Trainable = None, json: Json = False) -> int:
    """List the built-in trainables, or the parameters of one."""
    parameters = importlib.import_module("trainables.parameters")
    if name is not None:
        return _parameters(parameters, name, json)
    rows = [
        {
            "name": known,
            "meaning": _first_line(f"trainables.{known}", known),
            "parameters": len(parameters.names(known)),
        }
        for known in parameters.DEFAULTS
    ]
    shown = [(row["name"], f"{row['meaning']} ({row['parameters']} parameters)") for row in rows]
    return _print(rows, shown, json, 'Or your own: trainable = "path/to/file.py:function"')


def _parameters(parameters: Any, name: str, json: bool) -> int:
    from tuner.cli import words
    from tuner.errors import UsageError, nearest

    if name not in parameters.DEFAULTS:
        raise UsageError(f"{name}: there is no such trainable. {nearest(name, parameters.DEFAULTS)}")
    known = [parameters.PARAMETERS[each] for each in parameters.names(name)]
    rows = [
        {
            "name": each.name,
            "meaning": each.meaning,
            "usual": each.usual,
            "rule": each.rule,
            "default": parameters.DEFAULTS[name].get(each.name),
        }
        for each in known
    ]
    shown = [
        (row["name"], f"{row['meaning']}\nUsual: {row['usual']}. Default: {words.value(row['default'])}.")
        for row in rows
    ]
    return _print(rows, shown, json)


@app.command("data", epilog="Example: tuner list data")
def data(json: Json = False) -> int:
    """List the data sets and the options of each."""
    from tuner.spec.data import OPTIONS

    rows = [{"name": name, "meaning": _DATA.get(name, ""), "options": list(OPTIONS[name])} for name in OPTIONS]
    shown = [(str(row["name"]), f"{row['meaning']}\nOptions: {', '.join(row['options'])}") for row in rows]
    return _print(rows, shown, json)


@app.command("spaces", epilog="Example: tuner list spaces")
def spaces(json: Json = False) -> int:
    """List the sweep files that come with the project, ready to run."""
    from tuner.cli.copying import path_text

    folder = _spaces_folder()
    files = sorted(folder.glob("*.toml")) if folder else []
    rows = [{"name": file.stem, "meaning": _first_comment(file), "file": path_text(file)} for file in files]
    shown = [(row["file"], row["meaning"]) for row in rows]
    return _print(rows, shown, json, "" if rows else "There are none here.")


@app.command("strategies", epilog="Example: tuner list strategies")
def strategies(json: Json = False) -> int:
    """List the strategies and the options of each."""
    from tuner.strategies import MEANINGS, NAMES, OPTIONS

    rows = [
        {"name": name, "meaning": MEANINGS.get(name, ""), "options": _defaults(OPTIONS.get(name))} for name in NAMES
    ]
    return _print(rows, _with_options(rows, "search"), json)


@app.command("rules", epilog="Example: tuner list rules")
def rules(json: Json = False) -> int:
    """List the stopping rules and the options of each."""
    from tuner.stopping import MEANINGS, RULES

    rows = [
        {"name": name, "meaning": MEANINGS.get(name, ""), "options": _defaults(rule)} for name, rule in RULES.items()
    ]
    return _print(rows, _with_options(rows, "stopping"), json)


def _defaults(model: type[BaseModel] | None) -> dict[str, Any]:
    """Return a table's options with their defaults; None for one that must be given."""
    fields = model.model_fields if model else {}
    return {
        name: None if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in fields.items()
    }


def _with_options(rows: list[dict[str, Any]], table: str) -> list[tuple[str, str]]:
    from tuner.cli import words

    shown = []
    for row in rows:
        options = [
            f"{name} (must be given)" if value is None else f"{name} = {words.value(value)}"
            for name, value in row["options"].items()
        ]
        last = f"\n[{table}.{row['name']}] {', '.join(options)}" if options else ""
        shown.append((row["name"], f"{row['meaning']}{last}"))
    return shown


def _spaces_folder() -> Path | None:
    """Return search_spaces/ of the working directory, else the one that is installed."""
    here = Path("search_spaces")
    if here.is_dir():
        return here
    found = importlib.util.find_spec("search_spaces")
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else None


def _first_line(module: str, name: str) -> str:
    """Return what a module's docstring begins with, without running the module (it imports torch)."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(found.origin).read_bytes())) or ""
    return text.partition("\n")[0].removeprefix(f"{name}: ").rstrip(".")


def _first_comment(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        first = next((line for line in lines if line.strip()), "")
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _print(rows: list[dict[str, Any]], shown: list[tuple[Any, str]], json: bool, last: str = "") -> int:
    """Print names with their texts beside them, folded to the terminal's width."""
    from tuner.cli import terminal

    if json:
        terminal.show_json(rows)
        return 0
    console = terminal.console()
    terminal.show(console, _beside(shown, console.width))
    if last:
        terminal.show(console, [last])
    return 0


def _beside(shown: list[tuple[Any, str]], width: int) -> Iterator[Text]:
    from rich.text import Text

    indent = max((len(name) for name, _ in shown), default=0) + 2
    for name, text in shown:
        lines = [line for part in text.splitlines() for line in textwrap.wrap(part, max(30, width - indent))]
        first = Text.assemble((f"{name:<{indent}}", "bold"), lines[0] if lines else "")
        first.rstrip()
        yield first
        yield from (Text(" " * indent + line) for line in lines[1:])
