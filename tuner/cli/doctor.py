"""`tuner doctor`: verify, explain and repair a run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.arguments import Json, Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.text import Text

    from tuner.doctor import Finding

EXAMPLE = "tuner doctor latest --repair"

Repair = Annotated[
    bool, typer.Option("--repair", help="Put right what is safe to; what is moved aside goes to quarantine/.")
]

_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


def doctor(run: Run, repair: Repair = False, json: Json = False) -> int:
    """Verify a run folder, explain what is wrong, repair it. Exits with 1 where a problem is left."""
    from tuner import doctor as engine
    from tuner.cli.terminal import console, show, show_json

    folder = engine.find_folder(run)
    done = engine.repair(folder) if repair else []
    findings = engine.examine(folder)
    problems = [found for found in findings if found.severity != "note"]
    if json:
        show_json(_to_json_able(folder, findings, done))
    else:
        show(console(), _lines(folder, findings, done))
    return 1 if problems else 0


def _to_json_able(folder: Path, findings: list[Finding], done: list[str]) -> dict[str, object]:
    import dataclasses

    return {
        "run": folder.name,
        "folder": str(folder),
        "healthy": all(found.severity == "note" for found in findings),
        "findings": [dataclasses.asdict(found) for found in findings],
        "repaired": done,
    }


def _lines(folder: Path, findings: list[Finding], done: list[str]) -> Iterator[Text]:
    from rich.text import Text

    for sentence in done:
        yield Text(f"Repaired: {sentence}", style="green")
    if done:
        yield Text()
    for found in findings:
        yield Text.assemble((f"{found.severity:<8}", _STYLES[found.severity]), _printable(found.what))
        yield Text(f"        {_printable(found.meaning)}")
        yield Text(f"        {_printable(found.remedy)}")
    if findings:
        yield Text()
    yield Text(f"{folder.name}: {_verdict(findings)}")


def _verdict(findings: list[Finding]) -> str:
    from tuner.cli.words import count, names

    errors = sum(found.severity == "error" for found in findings)
    warnings = sum(found.severity == "warning" for found in findings)
    parts = [count(amount, word) for amount, word in ((errors, "error"), (warnings, "warning")) if amount]
    return f"{names(parts)}." if parts else "nothing wrong."


def _printable(text: str) -> str:
    """Return a sentence that may quote a damaged file, without what would steer a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
