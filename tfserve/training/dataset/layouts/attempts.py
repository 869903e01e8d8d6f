"""More than one layout may fit a project. Each is tried on its own, and the first one with usable files wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from tfserve.training.dataset.dataset_index import Skipped
from tfserve.training.dataset.search import Search

MOST, SOME = 0.5, 0.1
"""Shares of the images that a layout names, which must be usable."""

T = TypeVar("T")


@dataclass
class Notes:
    """What a reader notes in a search: the attributes of `Search` with these names."""

    layout: str = ""
    hint: str = ""
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    empty_classes: dict[str, Path] = field(default_factory=dict)


class LayoutReader(NamedTuple, Generic[T]):
    """`find` returns None for another layout. `usable` is how many images can be learnt from."""

    find: Callable[[], T | None]
    usable: Callable[[T], int]


@dataclass
class LayoutAttempt(Generic[T]):
    """What a reader found, and what it noted."""

    found: T
    usable: int
    notes: Notes

    @property
    def total(self) -> int:
        return self.usable + self.notes.bad.total()

    @property
    def in_words(self) -> str:
        return f"{self.notes.layout or 'another layout'} ({self.usable} of {self.total} images can be used)"


def first_usable(search: Search, readers: Sequence[LayoutReader[T]]) -> T | None:
    """Of the first reader that can use some of the images that it finds, else of the first that finds something.

    Later readers are not tried: what they find need not mean anything. Notes which ones were passed over.
    """
    attempts: list[LayoutAttempt[T]] = []
    for reader in readers:
        if (attempt := attempted(search, reader)) is None:
            continue
        attempts.append(attempt)
        if attempt.usable and attempt.usable >= SOME * attempt.total:
            return take(search, attempt, attempts)
    return take(search, attempts[0], attempts) if attempts else None


def most_usable(search: Search, readers: Sequence[LayoutReader[T]]) -> T | None:
    """Of the first reader that can use most of its images, and half as many as any other. Notes the others."""
    attempts = [attempt for reader in readers if (attempt := attempted(search, reader)) is not None]
    most = max((attempt.usable for attempt in attempts), default=0)
    for attempt in attempts:
        if attempt.usable and attempt.usable >= MOST * max(attempt.total, most):
            return take(search, attempt, attempts)
    return take(search, max(attempts, key=lambda each: each.usable), attempts) if attempts else None


def attempted(search: Search, reader: LayoutReader[T]) -> LayoutAttempt[T] | None:
    """None if the reader finds nothing; then only its hint and its problems are noted."""
    before = _swapped(search, Notes())
    try:
        found = reader.find()
    finally:
        notes = _swapped(search, before)
    if found is not None:
        return LayoutAttempt(found, reader.usable(found), notes)
    search.hint = search.hint or notes.hint
    _add_problems(search, notes)
    return None


def take(search: Search, chosen: LayoutAttempt[T], attempts: Sequence[LayoutAttempt[T]]) -> T:
    """Adds the notes of one attempt to the search, with a remark about each of the others."""
    notes = chosen.notes
    search.layout, search.hint = notes.layout, notes.hint or search.hint
    _add_problems(search, notes)
    search.remarks += notes.remarks
    search.remarks += [f"Also found, but not used: {each.in_words}." for each in attempts if each is not chosen]
    search.skipped += notes.skipped
    search.bad += notes.bad
    search.empty_classes |= notes.empty_classes
    return chosen.found


def _add_problems(search: Search, notes: Notes) -> None:
    """Several readers may fail to read the same folder."""
    search.problems += [problem for problem in dict.fromkeys(notes.problems) if problem not in search.problems]


def _swapped(search: Search, notes: Notes) -> Notes:
    """Gives the search these notes, and returns those that it had."""
    names = [each.name for each in fields(Notes)]
    had = Notes(**{name: getattr(search, name) for name in names})
    for name in names:
        setattr(search, name, getattr(notes, name))
    return had
