"""A table that fits the terminal: headers are stacked and columns left out, but a row is never wrapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = "  "
# A cell may not take more than this, so that one long value does not push the other columns out.
WIDEST = 28


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        title: Its header.
        cells: One text a row.
        right: Align to the right (numbers).
        keep: Never left out nor cut.
        weight: Where there is no room, the lightest column is left out first, of equals the last.
        styles: A rich style a row; empty for none.
    """

    title: str
    cells: Sequence[str]
    right: bool = False
    keep: bool = False
    weight: int = 0
    styles: Sequence[str] = ()

    @property
    def body_width(self) -> int:
        widest = max(map(cell_len, self.cells), default=0)
        return widest if self.keep else min(WIDEST, widest)

    def header(self, stacked: bool) -> list[str]:
        """Return the title's lines: one, or stacked at its underscores to be no wider than it must."""
        if not stacked:
            return [self.title]
        lines: list[str] = []
        for part in _parts(self.title):
            if lines and cell_len(lines[-1] + part) <= self.body_width:
                lines[-1] += part
            else:
                lines.append(part)
        return lines

    def width(self, stacked: bool) -> int:
        return max(self.body_width, *map(cell_len, self.header(stacked)))


@dataclass(frozen=True)
class Layout:
    """What fits.

    Args:
        lines: Header lines, then one line a row.
        left_out: Titles of the columns that did not fit.
    """

    lines: list[Text]
    left_out: list[str]


def lay_out(columns: Sequence[Column], width: int) -> Layout:
    """Return the columns as lines of at most `width` cells.

    Headers are stacked where that is what makes all of them fit; then the lightest columns are left out.
    """
    if _total(columns, stacked=False) <= width:
        return Layout(_lines(columns, stacked=False), [])
    chosen = list(columns)
    left_out: list[str] = []
    while _total(chosen, stacked=True) > width and not all(column.keep for column in chosen):
        lightest = min((column.weight, -index) for index, column in enumerate(chosen) if not column.keep)
        left_out.append(chosen.pop(-lightest[1]).title)
    return Layout(_lines(chosen, stacked=_total(chosen, stacked=False) > width), left_out)


def _parts(title: str) -> list[str]:
    """Return val_accuracy as val_ and accuracy; a short name is left whole."""
    words = title.split("_")
    return [f"{word}_" for word in words[:-1]] + [words[-1]]


def _total(columns: Sequence[Column], stacked: bool) -> int:
    return sum(column.width(stacked) for column in columns) + len(GAP) * (len(columns) - 1)


def _lines(columns: Sequence[Column], stacked: bool) -> list[Text]:
    headers = [column.header(stacked) for column in columns]
    height = max(map(len, headers), default=0)
    rows = max((len(column.cells) for column in columns), default=0)
    lines = []
    for line in range(height):
        cells = [_from_bottom(header, line, height) for header in headers]
        lines.append(_line(columns, cells, ["bold"] * len(columns), stacked))
    for row in range(rows):
        styles = [column.styles[row] if column.styles else "" for column in columns]
        lines.append(_line(columns, [column.cells[row] for column in columns], styles, stacked))
    return lines


def _from_bottom(header: Sequence[str], line: int, height: int) -> str:
    """Return a header's text on a line, where headers of fewer lines stand at the bottom."""
    place = line - (height - len(header))
    return header[place] if place >= 0 else ""


def _line(columns: Sequence[Column], cells: Sequence[str], styles: Sequence[str], stacked: bool) -> Text:
    text = Text(no_wrap=True)
    for place, (column, cell, style) in enumerate(zip(columns, cells, styles, strict=True)):
        text.append(GAP if place else "")
        text.append(_fit(cell, column.width(stacked), column.right), style)
    text.rstrip()
    return text


def _fit(cell: str, width: int, right: bool) -> str:
    room = width - cell_len(cell)
    if room < 0:
        return f"{set_cell_size(cell, width - 1)}…"
    return f"{' ' * room}{cell}" if right else f"{cell}{' ' * room}"
