"""What was measured."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Cell:
    """One row of one participant: requests a second at 1 and 32 connections; times at 1."""

    at_1: float
    at_32: float | None
    p50_ms: float
    p99_ms: float
    failed: int = 0

    @property
    def best(self) -> float:
        return max(self.at_1, self.at_32 or 0)

    def __str__(self) -> str:
        return f"{self.rates} a second, {self.times} ms"

    @property
    def rates(self) -> str:
        many = "–" if self.at_32 is None else rate(self.at_32)
        return f"{rate(self.at_1)} / {many}" + (f" ({self.failed} failed)" if self.failed else "")

    @property
    def times(self) -> str:
        return f"{self.p50_ms:.2f} / {self.p99_ms:.2f}"


@dataclass
class Measured:
    """One participant. A cell is a sentence where there are no numbers: why."""

    name: str
    title: str
    versions: str = ""
    cells: dict[str, Cell | str] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)

    def numbers(self, row: str) -> Cell | None:
        cell = self.cells.get(row)
        return cell if isinstance(cell, Cell) else None


def rate(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
