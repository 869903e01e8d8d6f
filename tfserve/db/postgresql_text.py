"""Text with NUL characters on PostgreSQL, which can't store them: they become U+FFFD, in what is stored and searched.

SQLite stores them. Without this, a search for such a text or a request with one would end as an internal error.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

NUL, REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"


def replace_nul_characters() -> None:
    """For all connections that are opened from now on."""
    connection_created.connect(_prepare, dispatch_uid=__name__)


def _prepare(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor == "postgresql":
        connection.connection.adapters.register_dumper(str, _dumper())


def _dumper() -> type:
    from psycopg.types.string import StrDumperUnknown

    class WithoutNul(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace(NUL, REPLACEMENT))

        def quote(self, obj: str) -> Any:
            return super().quote(obj.replace(NUL, REPLACEMENT))

    return WithoutNul
