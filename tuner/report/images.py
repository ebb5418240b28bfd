"""Figures as PNG files, in light and dark.

A figure is drawn once: its dark picture has the same pixels in other colours, which takes half the time of drawing it
twice.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tuner.analysis.figures.style import DARK, LIGHT
from tuner.report.blocks import Picture

# Charts have few colours: with a palette a file is a third of its size, and looks the same.
COLOURS = 256

Colours = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A figure's files.

    Args:
        light: PNG for light paper, and for print.
        dark: PNG for dark paper.
        width: In CSS pixels.
        height: In CSS pixels.
    """

    light: bytes
    dark: bytes
    width: int
    height: int


def drawn(picture: Picture) -> Drawn:
    """Return a picture in both schemes."""
    figure = picture.draw(False)
    image = _with_palette(figure)
    light = _file(image)
    image.putpalette(darkened(np.array(image.getpalette(), dtype=float).reshape(-1, 3)).tobytes())
    width, height = figure.get_size_inches() * 96
    return Drawn(light, _file(image), round(width), round(height))


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file with a palette."""
    return _file(_with_palette(figure))


def _with_palette(figure: Figure) -> Image.Image:
    canvas: Any = FigureCanvasAgg(figure)  # its methods have no types
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    small = image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = np.array(small.getpalette(), dtype=np.uint8).reshape(-1, 3)
    palette[palette.min(axis=1) >= 250] = 255  # it rounds; the paper must be the page's
    small.putpalette(palette.tobytes())
    return small


def _file(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def darkened(colours: Colours) -> NDArray[np.uint8]:
    """Return a light figure's colours as they are on dark paper.

    What is drawn is one of our colours, or its blend with the paper (at a line's edge, or of a faint line). Each is
    taken to be the blend that is nearest, and is blended anew from the dark scheme's colours.

    Args:
        colours: (N, 3), 0 to 255.
    """
    light, dark = (_colours(scheme) for scheme in (LIGHT, DARK))
    ways = light[1:] - light[0]
    away = colours - light[0]
    shares = np.clip(away @ ways.T / (ways**2).sum(axis=1), 0, 1)
    misses = np.linalg.norm(away[:, None] - shares[..., None] * ways, axis=2)
    nearest = misses.argmin(axis=1)
    rows = np.arange(len(colours))
    blends = dark[0] + shares[rows, nearest, None] * (dark[1 + nearest] - dark[0])
    return np.asarray(blends.round().astype(np.uint8))


def _colours(scheme: object) -> Colours:
    """Return a scheme's colours (K, 3), 0 to 255; the paper is the first."""
    fields = dataclasses.asdict(scheme)  # type: ignore[call-overload]
    return np.array([to_rgb(colour) for colour in fields.values()]) * 255
