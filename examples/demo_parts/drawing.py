"""Draws digits and what was read in them: in the terminal, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.columns import Columns
from rich.console import Console
from rich.text import Text

PIXELS = 8
#: a digit in the terminal: 12 columns, and 6 lines of two half blocks each
TERMINAL_PIXELS = 12
TILE, MARGIN, CAPTION = 96, 8, 22
TILES_IN_A_ROW = 6
GREEN, RED, WHITE = (40, 160, 80), (210, 50, 50), (250, 250, 250)


@dataclass(frozen=True)
class Reading:
    """An image (8 rows of 8 numbers from 0 to 1), the digit that it shows, and what the model says about it."""

    image: Sequence[Sequence[float]]
    label: int
    predicted: int
    probability: float

    @property
    def is_right(self) -> bool:
        return self.label == self.predicted

    @property
    def caption(self) -> str:
        return f"{self.predicted} ({self.probability:.0%})" + ("" if self.is_right else f", is {self.label}")


def draw_in_terminal(console: Console, readings: Sequence[Reading]) -> None:
    console.print(Columns([_terminal_tile(each, console) for each in readings], padding=(1, 2)))


def draw_picture(path: Path, readings: Sequence[Reading]) -> None:
    """A PNG with one framed tile for each reading: green for right, red for wrong."""
    rows = -(-len(readings) // TILES_IN_A_ROW)
    width, height = TILE + MARGIN, TILE + CAPTION + MARGIN
    picture = Image.new("RGB", (TILES_IN_A_ROW * width + MARGIN, rows * height + MARGIN), WHITE)
    for number, reading in enumerate(readings):
        row, column = divmod(number, TILES_IN_A_ROW)
        _draw_tile(picture, reading, left=MARGIN + column * width, top=MARGIN + row * height)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _draw_tile(picture: Image.Image, reading: Reading, *, left: int, top: int) -> None:
    color = GREEN if reading.is_right else RED
    picture.paste(_grey(reading, TILE, Image.Resampling.NEAREST), (left, top))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - 2, top - 2, left + TILE + 1, top + TILE + 1), outline=color, width=2)
    draw.text((left, top + TILE + 4), reading.caption, fill=color, font=ImageFont.load_default(14))


def _terminal_tile(reading: Reading, console: Console) -> Text:
    grey = _grey(reading, TERMINAL_PIXELS, Image.Resampling.BICUBIC)
    tile = Text()
    for upper, lower in _pairs_of_rows(grey):
        for above, below in zip(upper, lower, strict=True):
            if console.color_system:
                tile.append("▀", style=f"rgb({above},{above},{above}) on rgb({below},{below},{below})")
            else:  # without colours the characters have to tell light from dark
                tile.append(" ▄▀█"[2 * (above > 127) + (below > 127)])
        tile.append("\n")
    return tile.append(reading.caption, style="green" if reading.is_right else "bold red")


def _pairs_of_rows(grey: Image.Image) -> Iterator[tuple[bytes, bytes]]:
    data, width = grey.tobytes(), grey.width
    for begin in range(0, len(data), 2 * width):
        yield data[begin : begin + width], data[begin + width : begin + 2 * width]


def _grey(reading: Reading, size: int, resampling: Image.Resampling) -> Image.Image:
    levels = bytes(round(255 * level) for row in reading.image for level in row)
    return Image.frombytes("L", (PIXELS, PIXELS), levels).resize((size, size), resampling)
