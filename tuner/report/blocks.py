"""What a report is made of: sections of blocks, written once and shown as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from tuner import words
from tuner.row_files import Column, infer


@dataclass(frozen=True)
class Text:
    """A paragraph; `weak` is for what cannot be said, and why."""

    text: str
    weak: bool = False


@dataclass(frozen=True)
class Warn:
    """A sentence that must not be overlooked."""

    text: str


@dataclass(frozen=True)
class Points:
    """Sentences of a list."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One number of the answer.

    Args:
        label: What it is.
        value: The number, ready to read.
        note: What it rests on.
        main: Whether it is the one to quote.
    """

    label: str
    value: str
    note: str = ""
    main: bool = False


@dataclass(frozen=True)
class Facts:
    """The numbers of the answer."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Shown:
    """A column, and how its values are written."""

    column: Column
    write: Callable[[Any], str] = words.value


@dataclass(frozen=True)
class Table:
    """Rows.

    Args:
        name: Its file in tables/, without .csv; "" for none.
        title: What it is.
        columns: All of one length.
        sortable: Whether a click on a heading sorts it.
        most: How many rows Markdown shows.
    """

    name: str
    title: str
    columns: tuple[Shown, ...]
    sortable: bool = False
    most: int = 30

    @property
    def length(self) -> int:
        return len(self.columns[0].column.values) if self.columns else 0


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        name: Its file in figures/, without .png.
        title: What it shows.
        caption: How to read it.
        draw: Draws it, for dark paper or not.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[bool], Figure]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


Block = Text | Warn | Points | Facts | Table | Picture | Code


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Args:
        name: Its anchor.
        title: Its heading.
        blocks: What it says, in order.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """The whole report.

    Args:
        run: The run's name.
        subtitle: What it is, on one line.
        sections: From the answer to how to reproduce it.
    """

    run: str
    subtitle: str
    sections: tuple[Section, ...]

    def pictures(self) -> list[Picture]:
        """Return every figure, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]

    def tables(self) -> list[Table]:
        """Return every table that has a file of its own."""
        blocks = [block for section in self.sections for block in section.blocks]
        return [block for block in blocks if isinstance(block, Table) and block.name]


def column(name: str, values: Sequence[Any], write: Callable[[Any], str] = words.value) -> Shown:
    """Return a column of plain values, whatever they are."""
    return Shown(infer(name, [None if value != value else value for value in values]), write)


def numbers(name: str, values: Sequence[float | None]) -> Shown:
    """Return a column of measured values, written with 4 significant digits."""
    plain = [None if value is None or value != value else float(value) for value in values]
    return Shown(Column(name, "float", plain), words.number)
