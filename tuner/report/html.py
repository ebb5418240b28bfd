"""A report as one HTML file: styles, script and figures inside, nothing fetched, nothing of a run executed.

Jinja escapes every text. Besides, the page's own policy lets no script run but the one that is written here, and lets
it load nothing: what came from a run folder could do no harm even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from tuner.report.blocks import Report, Shown, Table
from tuner.report.images import Drawn
from tuner.words import STATES

# A text of more signs is given several lines, and room for them.
LONG = 28
# What is printed of a table; see page.css.
ROWS_ON_PAPER, COLUMNS_ON_PAPER = 60, 12

_HERE = Path(__file__).parent


def html(report: Report, images: Mapping[str, Drawn]) -> str:
    """Return the page.

    Args:
        report: What it says.
        images: The name of each of its pictures -> the picture, drawn.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        report=report,
        images=images,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        uri=lambda png: "data:image/png;base64," + base64.b64encode(png).decode(),
        kind=lambda block: type(block).__name__,
        rows=_rows,
        coded=_coded,
        rows_on_paper=ROWS_ON_PAPER,
        columns_on_paper=COLUMNS_ON_PAPER,
        is_number=_is_number,
    )


def _coded(text: str) -> Markup:
    """Return a text as HTML; what stands in backticks is code, as in Markdown."""
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:  # one is open
        return Markup("`".join(parts))
    return Markup("".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts)))


def _is_number(shown: Shown) -> bool:
    return shown.column.kind in ("int", "float")


def _rows(table: Table) -> list[list[dict[str, str]]]:
    """Return a table's cells: text, the number to sort by, and what it is called in the style."""
    columns = [[_cell(shown, value) for value in shown.column.values] for shown in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _cell(shown: Shown, value: Any) -> dict[str, str]:
    text = shown.write(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kind = "number" if _is_number(shown) else text if text in STATES else "long" if len(text) > LONG else ""
    return {"text": text, "key": repr(value) if number else "", "kind": kind}
