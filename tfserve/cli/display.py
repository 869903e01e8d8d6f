"""Printing: tables on a terminal, aligned text in a pipe, and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

MAX_CELL = 200
"""Characters of a value in a table."""
MIN_COLUMN = 8
"""Narrower columns can't be read."""
MAX_WHOLE = 24
"""A name or id up to this width is in one line, however narrow the terminal is."""


def show_json(value: Any) -> None:
    """Indented on a terminal, in one line otherwise."""
    text = json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None, default=str)
    print(text)


def show_done(as_json: bool, sentence: str, **facts: Any) -> None:
    """What a command has done: a sentence for people, or the facts as JSON."""
    if as_json:
        show_json(facts)
    else:
        print(sentence)


@contextmanager
def showing_each_done(as_json: bool, fact: str) -> Iterator[Callable[[str, str], None]]:
    """For a command that does the same to several things. It gets a function for the name and the sentence of each.

    The JSON is one document with a list, also of one thing. If an error ends the command, it has those before it.
    """
    names: list[str] = []

    def note_done(name: str, sentence: str) -> None:
        names.append(name)
        if not as_json:
            print(sentence)

    try:
        yield note_done
    finally:
        if as_json:
            show_json({fact: names})


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    cells = [[_cell(each) for each in row] for row in rows]
    if sys.stdout.isatty():
        show_on_terminal(columns, cells)
        return
    _show_aligned([list(columns), *cells])


def show_fields(fields: dict[str, Any]) -> None:
    """Names and values below one another."""
    if fields:
        _show_aligned([[name, _cell(value)] for name, value in fields.items()])


def note(message: str) -> None:
    """A remark that is not part of the result, so it goes to standard error."""
    print(message, file=sys.stderr)


def moment(text: str | None) -> str:
    """A time of the server as local time."""
    return "" if not text else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def activity(text: str) -> Iterator[None]:
    """Shows on a terminal that something runs."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


class Bar:
    """A progress bar on a terminal, nothing otherwise."""

    def __init__(self, description: str, total: float | None = None, *, estimates: bool = True) -> None:
        """`estimates`: shows the time that is left, from the progress so far."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        time = TimeRemainingColumn() if estimates else TimeElapsedColumn()
        columns = BarColumn(), TaskProgressColumn(), time, TextColumn("{task.description}", markup=False)
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._bar = self._progress.add_task(description, total=total)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def set(self, completed: float, total: float | None = None, description: str | None = None) -> None:
        self._progress.update(self._bar, completed=completed, total=total, description=description)


def _cell(value: Any) -> str:
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        text = ", ".join(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def _show_aligned(lines: Sequence[Sequence[str]]) -> None:
    from rich.cells import cell_len  # letters of East Asia are twice as wide as others

    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def show_on_terminal(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)
    if rows and console.width < MIN_COLUMN * len(columns):
        show_below_one_another(columns, rows)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:  # names and ids are for further commands, so nothing is cut off
        table.add_column(column, overflow="fold")
    first = max((cell_len(row[0]) for row in rows), default=0)
    table.columns[0].min_width = min(first, MAX_WHOLE)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_below_one_another(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """For a terminal that is too narrow for columns: a block for each row."""
    for number, row in enumerate(rows):
        if number:
            print()
        _show_aligned([*zip(columns, row, strict=True)])
