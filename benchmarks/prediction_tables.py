"""The tables of the comparison: on the terminal, and as markdown."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.entrants import LIMITS
from benchmarks.requests import ROWS
from benchmarks.results import MANY, ONE, Measured

MIB = 2**20
NONE = "–"
BUSY_WRK_US = 20.0
"""wrk takes 10 to 12 µs for a small request on a quiet machine of the sort that the documents speak of."""
CALLERS = ("bare-loop", "benchmark-app")
"""Only the runtime `auto` may use OpenVINO."""
CALLS_OF = {"mobilenet-json": "mobilenet-raw"}
"""Rows whose network is that of another row: its limit is measured there."""


@dataclass
class Sheet:
    title: str
    head: list[str]
    lines: list[list[str]]


def sheets(measured: list[Measured], rows: list[str]) -> tuple[list[Sheet], list[str]]:
    """The tables, and the notes below them: why a cell has no number."""
    notes: list[str] = []
    servers = [one for one in measured if one.name not in LIMITS]
    found = [
        rates(measured, rows, notes),
        times(measured, rows),
        processor(measured, rows),
        shares(servers, measured, rows),
        *(ratios(one, servers, rows) for one in servers if one.name.startswith("tfserve")),
        *(cpu_ratios(one, servers, rows) for one in servers if one.name.startswith("tfserve")),
    ]
    return [sheet for sheet in found if sheet.lines], notes


def sheet(title: str, rows: list[str], lines: list[list[str]]) -> Sheet:
    return Sheet(title, ["", *(ROWS[row] for row in rows)], lines)


def rates(measured: list[Measured], rows: list[str], notes: list[str]) -> Sheet:
    def cell(one: Measured, row: str) -> str:
        numbers = one.numbers(row)
        return numbers.rates if numbers else note(notes, one, row)

    lines = [[one.title, *(cell(one, row) for row in rows), memory(one)] for one in measured]
    found = sheet("Requests a second at 1 / 32 connections, median ± half the range", rows, lines)
    found.head.append("idle memory")
    return found


def note(notes: list[str], one: Measured, row: str) -> str:
    """A mark for a cell without a number; its reason is below the table."""
    reason = one.cells.get(row)
    if not isinstance(reason, str):
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
        return numbers.milliseconds if numbers else NONE

    lines = [[one.title, *(cell(one, row) for row in rows)] for one in measured]
    return sheet("Milliseconds at 1 connection, p50 / p99", rows, lines)


def processor(measured: list[Measured], rows: list[str]) -> Sheet:
    """What a busy machine disturbs least: it takes the cores away, and this counts only what was given."""
    lines = [[one.title, *(cpu(one, row) for row in rows)] for one in measured]
    lines.append(["wrk, median over all", *(client(measured, row) for row in rows)])
    return sheet("Processor time of one request at 32 connections", rows, lines)


def cpu(one: Measured, row: str) -> str:
    numbers = one.numbers(row)
    by_role = numbers.cpu_us(MANY) if numbers else {}
    if not by_role:
        return NONE
    total = duration(sum(by_role.values()))
    if "web" not in by_role:
        return total
    other = sum(value for role, value in by_role.items() if role not in ("web", "worker"))
    parts = f"web {duration(by_role['web'])}, model {duration(by_role.get('worker', 0))}, other {duration(other)}"
    return f"{total} ({parts})"


def client(measured: list[Measured], row: str) -> str:
    values = sorted(us for one in measured if (us := client_us(one, row)))
    return duration(values[len(values) // 2]) if values else NONE


def client_us(one: Measured, row: str) -> float | None:
    numbers = one.numbers(row)
    return numbers.median(MANY, lambda point: point.client_us or None) if numbers else None


def duration(us: float) -> str:
    return f"{us / 1000:.1f} ms" if us >= 1000 else f"{us:.1f} µs"


# --- the physical limits


def shares(servers: list[Measured], measured: list[Measured], rows: list[str]) -> Sheet:
    """Of the lower one of two limits: the network's own calls, and HTTP without any work."""

    def cell(one: Measured, row: str) -> str:
        return " / ".join(share(one, measured, row, connections) for connections in (ONE, MANY))

    lines = [[one.title, *(cell(one, row) for row in rows)] for one in servers]
    lines = [line for line in lines if any(character.isdigit() for cell in line[1:] for character in cell)]
    title = "Share of the physical limit at 1 / 32 connections (of: c = calls of the runtime, h = HTTP)"
    return sheet(title, rows, lines)


def share(one: Measured, measured: list[Measured], row: str, connections: int) -> str:
    numbers = one.numbers(row)
    mine = numbers.rate(connections) if numbers else None
    calls = CALLERS if one.name == "tfserve-auto" else CALLERS[:1]
    limits = {
        "c": max(rate_of(measured, name, CALLS_OF.get(row, row), connections) or 0.0 for name in calls),
        "h": rate_of(measured, "nginx", row, connections),
    }
    known = {mark: value for mark, value in limits.items() if value}
    if mine is None or not known:
        return NONE
    mark = min(known, key=lambda each: known[each])
    return f"{mine / known[mark]:.0%} {mark}"


def rate_of(measured: list[Measured], name: str, row: str, connections: int) -> float | None:
    numbers = next((one.numbers(row) for one in measured if one.name == name), None)
    return numbers.rate(connections) if numbers else None


# --- compared with the peers


def ratios(ours: Measured, servers: list[Measured], rows: list[str]) -> Sheet:
    peers = [one for one in servers if not one.name.startswith("tfserve")]
    lines = [["the best peer", *(ratio(ours, peers, row) for row in rows)]] if peers else []
    lines += [[one.title, *(ratio(ours, [one], row) for row in rows)] for one in peers]
    return sheet(f"{ours.title}: times as fast as … at 1 / 32 connections", rows, lines)


def ratio(ours: Measured, others: list[Measured], row: str) -> str:
    parts = []
    for connections in (ONE, MANY):
        numbers = ours.numbers(row)
        mine = numbers.rate(connections) if numbers else None
        theirs = {other.title: value for other in others if (value := rate_of(others, other.name, row, connections))}
        if mine is None or not theirs:
            parts.append(NONE)
            continue
        best = max(theirs, key=lambda title: theirs[title])
        parts.append(f"{mine / theirs[best]:.2f}" + (f" ({best})" if len(others) > 1 else ""))
    return NONE if parts == [NONE, NONE] else " / ".join(parts)


def cpu_ratios(ours: Measured, servers: list[Measured], rows: list[str]) -> Sheet:
    """Also on a busy machine, this says which server does more with the same cores."""
    peers = [one for one in servers if not one.name.startswith("tfserve")]
    lines = [[one.title, *(cpu_ratio(ours, one, row) for row in rows)] for one in peers]
    title = f"{ours.title}: processor time of … as a multiple of its own, for a request at 32 connections"
    return sheet(title, rows, lines)


def cpu_ratio(ours: Measured, other: Measured, row: str) -> str:
    mine, theirs = (cpu_us(one, row) for one in (ours, other))
    return f"{theirs / mine:.2f}" if mine and theirs else NONE


def cpu_us(one: Measured, row: str) -> float:
    """Of all processes together; 0 without a number."""
    numbers = one.numbers(row)
    return sum(numbers.cpu_us(MANY).values()) if numbers else 0.0


# --- output


def machine(measured: list[Measured]) -> str:
    times = [cell.times for one in measured for cell in one.cells.values() if not isinstance(cell, str)]
    parts = [f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"]
    if times:
        parts.append(f"medians of {max(times)}" + (f", of some {min(times)}" if min(times) < max(times) else ""))
    busy = [us for one in measured if one.name != "nginx" and (us := client_us(one, "small-json"))]
    if busy and sorted(busy)[len(busy) // 2] > BUSY_WRK_US:
        parts.append("other programs were busy (wrk takes much more processor time than on a quiet machine)")
    return "; ".join(parts)


def show(console: Console, measured: list[Measured], rows: list[str]) -> None:
    found, notes = sheets(measured, rows)
    for each in found:
        table = Table(*each.head, title=each.title, title_justify="left")
        for line in each.lines:
            table.add_row(*line)
        console.print(table, highlight=False, markup=False)
    say_below(notes, measured, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))


def markdown(measured: list[Measured], rows: list[str]) -> str:
    found, notes = sheets(measured, rows)
    lines = [machine(measured), ""]
    for each in found:
        lines += [f"**{each.title}**", "", bar(each.head), bar(["---"] * len(each.head)), *map(bar, each.lines), ""]
    say_below(notes, measured, lines.append)
    return "\n".join(lines) + "\n"


def bar(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def say_below(notes: list[str], measured: list[Measured], say: Callable[[str], object]) -> None:
    for number, text in enumerate(notes, 1):
        say(f"[{number}] {text}")
    for one in measured:
        if one.versions:
            say(f"{one.title}: {one.versions}")
        for remark in [*one.remarks, *one.notes]:
            say(f"{one.title}: {remark}")
