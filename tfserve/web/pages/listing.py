"""Lists that are filtered with links and GET forms, so that every view of them has a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.http import QueryDict
from django.utils.html import escape

PLACE = ("before", "after", "offset")
"""Parameters that say which page of a list is shown. Another filter begins at the first page."""
SEARCH_CHARS = 200


@dataclass(frozen=True)
class Chip:
    """A link that selects one value of a filter."""

    label: str
    href: str
    is_current: bool
    #: rows with this value; None if they are not counted
    count: int | None = None


def chips(
    query: QueryDict, field: str, labels: Mapping[str, str], counts: Mapping[str, int] | None = None
) -> list[Chip]:
    """One chip for each value of `field`; the value of all rows is empty."""
    current = query.get(field, "")
    return [
        Chip(label, link(query, {field: value}), value == current, None if counts is None else counts.get(value, 0))
        for value, label in labels.items()
    ]


@dataclass(frozen=True)
class Range:
    """Which rows of a list are shown, from 1, with links to the pages next to it (empty at the ends)."""

    first: int
    last: int
    total: int
    newer: str
    older: str


def shown_range(query: QueryDict, field: str, size: int, total: int) -> Range:
    """The page that begins `query[field]` rows after the first one, or the last page if the list is shorter.

    Other lists of the page stay where they are.
    """
    offset = min(number(query, field) or 0, max(0, total - 1) // size * size)
    end = min(offset + size, total)

    newer = _at(query, field, max(0, offset - size)) if offset else ""
    return Range(offset + 1, end, total, newer, _at(query, field, end) if end < total else "")


class Shown(NamedTuple):
    """The rows of one page of a list, and which ones they are."""

    rows: Sequence[Any]
    range: Range


def fitting(query: QueryDict, field: str, rows: Sequence[Any], limit: int, size: Callable[[Any], int]) -> Shown:
    """The rows of the page that begins at `query[field]`, as many as fit into `limit` bytes, and at least one.

    `size` is what a row takes on a page, so that a list of long names has shorter pages. Only rows of this page and of
    the one before are measured, because a list may have any length.
    """
    begin = min(number(query, field) or 0, max(0, len(rows) - 1))
    end = begin + _fit(rows[begin:], limit, size)
    newer = _at(query, field, begin - _fit(rows[:begin][::-1], limit, size)) if begin else ""
    older = _at(query, field, end) if end < len(rows) else ""
    return Shown(rows[begin:end], Range(begin + 1, end, len(rows), newer, older))


def escaped_size(*texts: Any) -> int:
    """How many bytes of a page these take."""
    return sum(len(escape(each).encode()) for each in texts)


def link(query: QueryDict, changes: Mapping[str, str | int]) -> str:
    """The query of the first page with these changes to the filters. Empty values are left out."""
    kept = {name: value for name, value in query.items() if name not in PLACE}
    chosen = QueryDict(mutable=True)
    for name, value in (kept | dict(changes)).items():
        if value != "":
            chosen[name] = str(value)
    return f"?{chosen.urlencode()}"


def search_text(query: QueryDict) -> str:
    """The text of the search field."""
    return str(query.get("q", "")).strip()[:SEARCH_CHARS]


def number(query: QueryDict, field: str) -> int | None:
    """A positive integer; None if it is missing or is not one, so that an edited URL still shows a list."""
    text = str(query.get(field, ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def is_filtered(query: QueryDict, fields: Iterable[str]) -> bool:
    """Whether any of these filters is set."""
    return any(query.get(field) for field in fields)


def _at(query: QueryDict, field: str, begin: int) -> str:
    changed = query.copy()
    changed[field] = str(begin)
    return f"?{changed.urlencode()}"


def _fit(rows: Sequence[Any], limit: int, size: Callable[[Any], int]) -> int:
    """How many of the first rows fit."""
    used = 0
    for count, row in enumerate(rows):
        used += size(row)
        if used > limit:
            return max(1, count)
    return len(rows)


def fitted(text: str, limit: int) -> str:
    """As much of the beginning of the text as takes at most `limit` bytes of a page."""
    shown = text[:limit]
    while (size := escaped_size(shown)) > limit:
        shown = shown[: len(shown) * limit // size]
    return shown
