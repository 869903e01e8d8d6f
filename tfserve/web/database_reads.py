"""Reads the database from an event loop: in threads, each with a connection of its own that stays open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection

from tfserve.db.database import cause_of, is_outage
from tfserve.errors import DatabaseUnavailable, Internal

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class AcceptedUnread(Internal):
    """{what} was accepted, but the database can't be read ({cause}), so this response can't show the result. Do not \
send the request again. GET {path} shows the result once the database is back."""


async def read(query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the query returns. A connection that has broken meanwhile is opened again, once."""
    return await asyncio.to_thread(read_here, lambda: query(*args, **kwargs))


async def read_accepted(what: str, path: str, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `read`, after a request was accepted: a client must not send it again. Raises `AcceptedUnread`."""
    try:
        return await read(query, *args, **kwargs)
    except DatabaseUnavailable as error:
        raise AcceptedUnread(what=what, cause=error.detail["cause"], path=path) from None


def read_here(query: Callable[[], T]) -> T:
    """As `read`, in the calling thread."""
    try:
        return _again_if_broken(query)
    except DatabaseError as error:
        if not is_outage(error):
            raise
        _outage.report(error)
        raise DatabaseUnavailable(cause=cause_of(error)) from None


def _again_if_broken(query: Callable[[], T]) -> T:
    try:
        result = query()
    except (InterfaceError, OperationalError):
        connection.close()
        result = query()
    _outage.is_reported = False
    return result


class _Outage:
    """One line in the log for all reads that fail until one works again."""

    is_reported = False

    def report(self, error: Exception) -> None:
        if not self.is_reported:
            self.is_reported = True
            log.error("the database can't be read: %s", cause_of(error))


_outage = _Outage()
