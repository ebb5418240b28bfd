"""How every figure looks, in light and dark, and what keeps its labels apart and inside the canvas.

Figures are drawn within `canvas`: a name that comes from a run is plain text there, never mathematical notation.
"""

from __future__ import annotations

import contextlib
import functools
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from tuner import words

WIDTH_IN = 6.8
DPI = 144
FONT, FONT_PT = "DejaVu Sans", 9.0
# What a label may take: a third of the figure's width, at this font.
NAME_CHARACTERS = 30


@dataclass(frozen=True)
class Palette:
    """Colours of one scheme, told apart by the colour-blind (after Okabe and Ito), and legible on its paper."""

    paper: str
    ink: str
    muted: str
    grid: str
    blue: str
    orange: str
    red: str
    green: str
    faint: str

    def of_status(self, status: str) -> str:
        """Return the colour of a trial's state."""
        known = {"completed": self.blue, "stopped": self.orange, "failed": self.red, "running": self.green}
        return known.get(status, self.muted)


LIGHT = Palette("#ffffff", "#1f2328", "#59636e", "#d8dee4", "#0072b2", "#b86e00", "#c8102e", "#00785a", "#8c959f")
DARK = Palette("#0d1117", "#e6edf3", "#9da7b1", "#30363d", "#58b2f0", "#f0a93b", "#ff7b72", "#45c79b", "#768390")

# Shapes too, so that states are told apart without colour.
MARKERS = {"completed": "o", "stopped": "s", "failed": "x", "running": "^", "interrupted": "v", "pending": "."}


def palette(dark: bool) -> Palette:
    """Return the colours of the light or the dark scheme."""
    return DARK if dark else LIGHT


@contextlib.contextmanager
def canvas(height_in: float, dark: bool, width_in: float = WIDTH_IN) -> Iterator[Figure]:
    """Give an empty figure, and lay out what was drawn on it.

    Args:
        height_in: Its height in inches.
        dark: For dark paper.
        width_in: Its width in inches.
    """
    colours = palette(dark)
    settings: Any = _settings(colours)  # matplotlib names every setting in its type
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font has not, a layout without room: neither is an error
        figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        _lay_out(figure)


def _settings(colours: Palette) -> dict[str, Any]:
    return {
        "text.parse_math": False,  # a parameter may be called a$b$
        "font.family": FONT,  # it comes with matplotlib, so that figures are the same everywhere
        "font.size": FONT_PT,
        "axes.titlesize": FONT_PT + 1,
        "axes.titlelocation": "left",
        "axes.labelsize": FONT_PT,
        "xtick.labelsize": FONT_PT - 1,
        "ytick.labelsize": FONT_PT - 1,
        "legend.fontsize": FONT_PT - 1,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": colours.grid,
        "grid.linewidth": 0.6,
        "figure.facecolor": colours.paper,
        "savefig.facecolor": colours.paper,
        "axes.facecolor": colours.paper,
        "axes.edgecolor": colours.muted,
        "axes.labelcolor": colours.ink,
        "axes.titlecolor": colours.ink,
        "text.color": colours.ink,
        "xtick.color": colours.muted,
        "ytick.color": colours.muted,
        "xtick.labelcolor": colours.ink,
        "ytick.labelcolor": colours.ink,
        "axes.unicode_minus": False,
    }


def name(text: Any, width: int = NAME_CHARACTERS) -> str:
    """Return a name on one line of at most `width` columns, its middle left out where it is longer.

    Long names often differ at their ends, so that both stay.
    """
    line = " ".join(str(text).split())
    line = "".join(sign if _has_glyph(sign) else "?" for sign in line) or "?"
    if _columns(line) <= width:
        return line
    head, tail = (width - 1 + 1) // 2, (width - 1) // 2
    while _columns(line[:head]) + _columns(line[len(line) - tail :]) + 1 > width:
        head, tail = max(1, head - 1), max(0, tail - 1)
        if head == 1 and tail == 0:
            break
    return f"{line[:head]}…{line[len(line) - tail :]}"


@functools.cache
def _has_glyph(sign: str) -> bool:
    """Say whether the font has a letter; what it lacks would be an empty box, and a warning for each."""
    return sign.isprintable() and bool(get_font(findfont(FONT)).get_char_index(ord(sign)))


def _columns(text: str) -> int:
    """Return how wide a text is; an East Asian letter takes two columns."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def number_axis(
    axis: Axis, *, log: bool = False, whole: bool = False, ticks: int = 5, limits: tuple[float, float] | None = None
) -> None:
    """Give an axis few ticks, labelled as the tables write numbers.

    Args:
        axis: Of axes that have been drawn on.
        log: On a logarithmic scale.
        whole: Only whole numbers.
        ticks: About how many.
        limits: Its ends, or None to leave them as they are.
    """
    if log:
        axis.axes.set(**{f"{_letter(axis)}scale": "log"})
    if limits is not None:
        axis.axes.set(**{f"{_letter(axis)}lim": limits})
    low, high = axis.get_view_interval()
    if log and high / max(low, 1e-300) > 30:
        axis.set_major_locator(LogLocator(numticks=ticks + 1))
    elif log and high / max(low, 1e-300) > 4:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=ticks + 1))
    else:
        axis.set_major_locator(MaxNLocator(nbins=ticks, integer=whole, min_n_ticks=1))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda at, _: tick_text(at)))
    axis.set_minor_formatter(NullFormatter())


def _letter(axis: Axis) -> str:
    return "x" if axis is axis.axes.xaxis else "y"


def tick_text(at: float) -> str:
    """Return a tick's number without needless digits: 0.25, 1e-5, 20000."""
    return words.value(round(float(at), 12))


def category_axis(axis: Axis, labels: Sequence[Any], width: int = NAME_CHARACTERS) -> None:
    """Label the places 0, 1, 2, ... of an axis with names."""
    axis.set_ticks(range(len(labels)), labels=[name(label, width) for label in labels])
    axis.grid(False)


def legend(axes: Axes, *, columns: int = 3, above: bool = True) -> None:
    """Put a legend above the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    if above:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.1,
            handletextpad=0.5, columnspacing=1.2,
        )  # fmt: skip
    else:
        axes.legend(handles, labels, loc="best")


def shades(dark: bool) -> Colormap:
    """Return the colours from nothing (the paper) to all (blue)."""
    colours = palette(dark)
    return LinearSegmentedColormap.from_list("shades", [colours.paper, colours.blue])


def nothing(dark: bool, why: str) -> Figure:
    """Return a figure that says why it is empty."""
    with canvas(1.2, dark) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.text(0.5, 0.5, name(why, 90), ha="center", va="center", color=palette(dark).muted)
    return figure


# --- what keeps labels apart ---


def _lay_out(figure: Figure) -> None:
    """Give everything its room, take away the tick labels that lie on others, and give the rest its room again.

    The layout is then done: it would cost as much again whenever the figure is drawn.
    """
    engine = figure.get_layout_engine()
    assert engine is not None  # canvas gave it one
    engine.execute(figure)
    crowded = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if _thin(axis)]
    if crowded:
        engine.execute(figure)
    figure.set_layout_engine("none")


def _thin(axis: Axis) -> bool:
    """Keep every second, third, ... label of an axis until none lies on its neighbour; say whether any was taken."""
    labels = visible_tick_labels(axis)
    places = [label.get_position()["xy".index(_letter(axis))] for label in labels]
    texts = [label.get_text() for label in labels]
    boxes = [label.get_window_extent() for label in labels]
    step = 1
    while step < len(boxes) and any(
        one.padded(5).overlaps(other) for one, other in zip(boxes[::step], boxes[step::step], strict=False)
    ):
        step += 1
    if step == 1:
        return False
    axis.set_ticks(places[::step], labels=texts[::step])
    return True


def visible_tick_labels(axis: Axis) -> list[Text]:
    """Return the labels of an axis that are seen: with text, within its view."""
    if not axis.get_visible() or not axis.axes.axison:
        return []
    low, high = sorted(axis.get_view_interval())
    room = 1e-9 * (high - low)
    ticks = [tick for tick in axis.get_major_ticks() if low - room <= tick.get_loc() <= high + room]
    found = [label for tick in ticks for label in (tick.label1, tick.label2)]
    return [label for label in found if label.get_visible() and label.get_text().strip()]


def finite_limits(values: Sequence[float]) -> tuple[float, float] | None:
    """Return limits around finite values with 5 % to spare; None where there is none."""
    if not len(values):
        return None
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room
