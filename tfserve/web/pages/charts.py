"""Line charts as SVG elements: the points in the coordinates of a viewBox, for templates to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320.0, 160.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 8.0, 8.0, 22.0
"""Margins of a chart with axes, for its labels."""
SPARK_WIDTH, SPARK_HEIGHT = 160.0, 36.0
Points = list[tuple[int, float]]
MAX_POINTS = 50
"""A line with more would show no more, on its width."""


@dataclass(frozen=True)
class ChartLine:
    """`points` is the attribute of a polyline; `last` are the coordinates of its end, for charts of one value."""

    name: str
    points: str
    last: tuple[float, float] | None
    values: Sequence[float]

    @property
    def newest(self) -> float:
        return self.values[-1]


@dataclass(frozen=True)
class Mark:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Lines over the steps 1, 2, 3, …, with axes."""

    title: str
    lines: list[ChartLine]
    rows: list[Mark]
    columns: list[Mark]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    bottom: float = HEIGHT - BOTTOM


def chart(title: str, series: Mapping[str, Sequence[float]]) -> Chart | None:
    """A chart of these series; None without a finite value."""
    known = {name: values for name, values in series.items() if any(map(math.isfinite, values))}
    if not known:
        return None
    shown = {name: _thinned(values) for name, values in known.items()}
    finite = [value for points in shown.values() for _, value in points]
    ticks = _ticks(min(finite), max(finite))
    low, high = min(ticks[0], *finite), max(ticks[-1], *finite)
    steps = max(map(len, known.values()))

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (index / (steps - 1) if steps > 1 else 0.5)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / ((high - low) or 1.0)

    lines = [_line(name, points, known[name], x, y) for name, points in shown.items()]
    rows = [Mark(round(y(tick), 1), f"{tick:.4g}") for tick in ticks]
    labelled = sorted({0, steps // 2, steps - 1}) if steps > 2 else range(steps)
    return Chart(title, lines, rows, [Mark(round(x(index), 1), str(index + 1)) for index in labelled])


def spark(values: Sequence[float], least: float = 0.0) -> str:
    """The points of a sparkline from 0 up, of which the highest is at the top; empty without two values."""
    if len(values) < 2:
        return ""
    most, width = max(least, *values) or 1.0, SPARK_WIDTH / (len(values) - 1)
    return " ".join(
        f"{index * width:.1f},{SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * value / most:.1f}"
        for index, value in enumerate(values)
    )


def _line(
    name: str, shown: Points, values: Sequence[float], x: Callable[[float], float], y: Callable[[float], float]
) -> ChartLine:
    points = [(round(x(n), 1), round(y(value), 1)) for n, value in shown]
    return ChartLine(name, " ".join(f"{a},{b}" for a, b in points), points[-1] if points else None, values)


def _thinned(values: Sequence[float]) -> Points:
    """The finite values with their steps. Of many, the lowest and the highest of each piece of the line, so that its
    peaks stay, and both ends."""
    if len(values) <= MAX_POINTS:
        return [(n, value) for n, value in enumerate(values) if math.isfinite(value)]
    pieces, count = MAX_POINTS // 2 - 1, len(values)
    kept = {n for n in (0, count - 1) if math.isfinite(values[n])}
    for index in range(pieces):
        begin = index * count // pieces
        piece = [*values[begin : (index + 1) * count // pieces]]
        finite = piece if all(map(math.isfinite, piece)) else [value for value in piece if math.isfinite(value)]
        if finite:
            kept |= {begin + piece.index(min(finite)), begin + piece.index(max(finite))}
    return [(n, values[n]) for n in sorted(kept)]


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from about `low` to about `high`."""
    span = high - low or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step))
    return [number * step for number in range(first, last + 1)]
