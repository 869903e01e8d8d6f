"""Lists that are filtered with links and GET forms, so that every view of them has a URL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.http import QueryDict

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

    def at(begin: int) -> str:
        changed = query.copy()
        changed[field] = str(begin)
        return f"?{changed.urlencode()}"

    newer = at(max(0, offset - size)) if offset else ""
    return Range(offset + 1, end, total, newer, at(end) if end < total else "")


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
