"""A report as Markdown: for a terminal, or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tuner.report.blocks import Block, Code, Facts, Picture, Points, Report, Table, Text, Warn
from tuner.words import count


def markdown(report: Report) -> str:
    """Return the report's text; figures are links to figures/<name>.png."""
    lines = [f"# {plain(report.run)}", "", plain(report.subtitle), ""]
    for section in report.sections:
        lines += [f"## {plain(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def plain(text: str) -> str:
    """Return a text on one line in which nothing is markup, whatever a run's names hold."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", line)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield f"*{plain(block.text)}*" if block.weak else plain(block.text)
        case Warn():
            yield f"> **{plain(block.text)}**"
        case Points():
            yield from (f"- {plain(text)}" for text in block.texts)
        case Facts():
            yield from _facts(block)
        case Code():
            yield from _fenced(block.text)
        case Picture():
            yield f"![{plain(block.title)}](figures/{block.name}.png)"
            yield ""
            yield f"{plain(block.title)}. {plain(block.caption)}"
        case Table():
            yield from _table(block)


def _facts(block: Facts) -> Iterator[str]:
    for fact in block.facts:
        value = f"**{plain(fact.value)}**" if fact.main else plain(fact.value)
        note = f" ({plain(fact.note)})" if fact.note else ""
        yield f"- {plain(fact.label)}: {value}{note}"


def _fenced(text: str) -> Iterator[str]:
    """Yield a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from (fence, text, fence)


def _table(block: Table) -> Iterator[str]:
    yield f"**{plain(block.title)}**"
    yield ""
    yield "| " + " | ".join(plain(shown.column.name) for shown in block.columns) + " |"
    yield (
        "|" + "|".join(" ---: " if shown.column.kind in ("int", "float") else " --- " for shown in block.columns) + "|"
    )
    for row in range(min(block.length, block.most)):
        cells = (plain(shown.write(shown.column.values[row])) or " " for shown in block.columns)
        yield "| " + " | ".join(cells) + " |"
    if block.length > block.most:
        yield ""
        yield f"And {count(block.length - block.most, 'row')} more: tables/{block.name or 'trials'}.csv"
