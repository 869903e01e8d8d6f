"""What was measured: points in turns, their medians, and a file that outlives an interruption."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load_point import Point

ONE, MANY = 1, 32
"""The numbers of connections of each row."""


@dataclass
class Cell:
    """One row of one participant: its points by the number of connections, in the order in which they were measured."""

    points: dict[int, list[Point]] = field(default_factory=dict)

    def add(self, connections: int, point: Point) -> None:
        self.points.setdefault(connections, []).append(point)

    def median(self, connections: int, of: Callable[[Point], float | None]) -> float | None:
        """None without a point, and where the points have no such number."""
        values = [value for point in self.points.get(connections, []) if (value := of(point)) is not None]
        return statistics.median(values) if values else None

    def rate(self, connections: int) -> float | None:
        return self.median(connections, lambda point: point.rate)

    def spread(self, connections: int) -> float:
        """Half the distance between the lowest and the highest rate, as a share of their median."""
        rates = [point.rate for point in self.points.get(connections, [])]
        middle = statistics.median(rates) if rates else 0.0
        return (max(rates) - min(rates)) / 2 / middle if middle else 0.0

    def cpu_us(self, connections: int) -> dict[str, float]:
        """The median for each role, in the order of the roles."""
        points = self.points.get(connections, [])
        roles = sorted({role for point in points for role in point.cpu_us})
        return {role: statistics.median(point.cpu_us.get(role, 0.0) for point in points) for role in roles}

    @property
    def failed(self) -> int:
        return sum(point.failed for points in self.points.values() for point in points)

    @property
    def times(self) -> int:
        """Complete repetitions."""
        return min((len(points) for points in self.points.values()), default=0)

    @property
    def rates(self) -> str:
        shown = " / ".join(self._rate(connections) for connections in (ONE, MANY))
        return shown + (f" ({self.failed} failed)" if self.failed else "")

    def _rate(self, connections: int) -> str:
        value = self.rate(connections)
        if value is None:
            return "–"
        spread = f" ±{self.spread(connections):.0%}" if len(self.points[connections]) > 1 else ""
        return rate(value) + spread

    @property
    def milliseconds(self) -> str:
        """p50 and p99 at one connection."""
        values = [self.median(ONE, lambda point: point.p50_ms), self.median(ONE, lambda point: point.p99_ms)]
        return " / ".join("–" if value is None else f"{value:.2f}" for value in values)

    def __str__(self) -> str:
        return f"{self.rates} a second, {self.milliseconds} ms"


@dataclass
class Measured:
    """One participant. A cell is a sentence where there are no numbers: why."""

    name: str
    title: str
    versions: str = ""
    cells: dict[str, Cell | str] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def numbers(self, row: str) -> Cell | None:
        cell = self.cells.get(row)
        return cell if isinstance(cell, Cell) and cell.points else None


def rate(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


# --- the file


def write(measured: list[Measured], file: Path) -> None:
    """Replaces the file as a whole: an interruption leaves the one before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps([asdict(one) for one in measured], indent=1))
    new.replace(file)


def read(file: Path) -> list[Measured]:
    return [_measured(one) for one in json.loads(file.read_text())]


def _measured(fields: dict[str, Any]) -> Measured:
    cells = {row: cell if isinstance(cell, str) else _cell(cell) for row, cell in fields["cells"].items()}
    return Measured(**{**fields, "cells": cells})


def _cell(fields: dict[str, Any]) -> Cell:
    return Cell({int(key): [Point(**point) for point in points] for key, points in fields["points"].items()})


def merged(runs: list[list[Measured]]) -> list[Measured]:
    """Rows and participants of several runs; of what was measured twice, the later one. Compare only within one run."""
    found: dict[str, Measured] = {}
    for one in (one for run in runs for one in run):
        kept = found.setdefault(one.name, one)
        kept.cells |= {row: cell for row, cell in one.cells.items() if row not in kept.cells or one.numbers(row)}
        kept.memory_bytes |= one.memory_bytes
        kept.remarks = list(dict.fromkeys([*kept.remarks, *one.remarks]))
        kept.notes = list(dict.fromkeys([*kept.notes, *one.notes]))
    return list(found.values())
