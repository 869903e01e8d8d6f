"""Reads the database from an event loop: in threads, each with a connection of its own that stays open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection

P = ParamSpec("P")
T = TypeVar("T")


async def read(query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the query returns. A connection that has broken meanwhile is opened again, once."""
    return await asyncio.to_thread(_query, lambda: query(*args, **kwargs))


def _query(query: Callable[[], T]) -> T:
    try:
        return query()
    except (InterfaceError, OperationalError):
        connection.close()
        return query()
