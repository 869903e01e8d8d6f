"""The tables of the comparison: on the terminal, and as markdown."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.requests import ROWS
from benchmarks.results import Cell, Measured

MIB = 2**20
NONE = "–"


@dataclass
class Sheet:
    title: str
    head: list[str]
    lines: list[list[str]]


def sheets(measured: list[Measured], rows: list[str]) -> tuple[list[Sheet], list[str]]:
    """The tables, and the notes below them: why a cell has no number."""
    notes: list[str] = []
    found = [
        rates(measured, rows, notes),
        times(measured, rows),
        *(ratios(one, measured, rows) for one in measured if one.name.startswith("tfserve")),
    ]
    return found, notes


def rates(measured: list[Measured], rows: list[str], notes: list[str]) -> Sheet:
    def cell(one: Measured, row: str) -> str:
        numbers = one.numbers(row)
        return numbers.rates if numbers else note(notes, one, row)

    lines = [[one.title, *(cell(one, row) for row in rows), memory(one)] for one in measured]
    return Sheet("Requests a second at 1 / 32 connections", ["", *(ROWS[row] for row in rows), "idle memory"], lines)


def note(notes: list[str], one: Measured, row: str) -> str:
    """A mark for a cell without a number, whose reason stands below the table."""
    reason = one.cells.get(row)
    if not reason:
        return NONE
    text = f"{one.title}: {reason}"
    if text not in notes:
        notes.append(text)
    return f"{NONE} [{notes.index(text) + 1}]"


def memory(one: Measured) -> str:
    """Of the row that takes most."""
    return f"{max(one.memory_bytes.values()) // MIB} MiB" if one.memory_bytes else NONE


def times(measured: list[Measured], rows: list[str]) -> Sheet:
    def cell(one: Measured, row: str) -> str:
        numbers = one.numbers(row)
        return numbers.times if numbers else NONE

    lines = [[one.title, *(cell(one, row) for row in rows)] for one in measured]
    return Sheet("Milliseconds at 1 connection, p50 / p99", ["", *(ROWS[row] for row in rows)], lines)


def ratios(ours: Measured, measured: list[Measured], rows: list[str]) -> Sheet:
    triton = [one for one in measured if one.name == "triton"]
    python = [one for one in measured if not one.name.startswith(("tfserve", "triton", "bare"))]
    lines = [
        ["the best Python peer", *(ratio(ours, python, row) for row in rows)],
        ["Triton", *(ratio(ours, triton, row) for row in rows)],
    ]
    return Sheet(f"{ours.title}, times as fast as … at 1 / 32 connections", ["", *(ROWS[row] for row in rows)], lines)


def ratio(ours: Measured, others: list[Measured], row: str) -> str:
    mine = ours.numbers(row)
    theirs = [cell for other in others if (cell := other.numbers(row))]
    if mine is None or not theirs:
        return NONE
    return " / ".join(f"{of(mine) / max(map(of, theirs)):.2f}" for of in (at_1, at_32))


def at_1(cell: Cell) -> float:
    return cell.at_1


def at_32(cell: Cell) -> float:
    return cell.at_32 or 0.0


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"


def show(console: Console, measured: list[Measured], rows: list[str]) -> None:
    found, notes = sheets(measured, rows)
    for sheet in found:
        table = Table(*sheet.head, title=sheet.title, title_justify="left")
        for line in sheet.lines:
            table.add_row(*line)
        console.print(table, highlight=False, markup=False)
    told(notes, measured, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))


def markdown(measured: list[Measured], rows: list[str]) -> str:
    found, notes = sheets(measured, rows)
    lines = [machine(), ""]
    for sheet in found:
        lines += [f"**{sheet.title}**", "", bar(sheet.head), bar(["---"] * len(sheet.head)), *map(bar, sheet.lines), ""]
    told(notes, measured, lines.append)
    return "\n".join(lines) + "\n"


def bar(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def told(notes: list[str], measured: list[Measured], say: Callable[[str], object]) -> None:
    for number, text in enumerate(notes, 1):
        say(f"[{number}] {text}")
    for one in measured:
        if one.versions:
            say(f"{one.title}: {one.versions}")
