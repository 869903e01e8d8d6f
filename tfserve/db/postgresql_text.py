"""Text with NUL characters on PostgreSQL, which can't store them: they become U+FFFD, in what is stored and searched.

SQLite stores them. Without this, a search for such a text or a request with one would end as an internal error.
"""

from __future__ import annotations

import re
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

NUL, REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"
_NUL_IN_JSON = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def replace_nul_characters() -> None:
    """For all connections that are opened from now on."""
    connection_created.connect(_prepare, dispatch_uid=__name__)


def without_nul_in_json(text: bytes) -> bytes:
    r"""The same JSON without the character `\u0000`. An escaped backslash before `u0000` stays."""
    return _NUL_IN_JSON.sub(rb"\1\\ufffd", text)


def _prepare(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor == "postgresql":
        _register(connection.connection.adapters)


def _register(adapters: Any) -> None:
    from psycopg.types.json import Jsonb, JsonbDumper
    from psycopg.types.string import StrDumperUnknown

    class Text(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace(NUL, REPLACEMENT))

    class Json(JsonbDumper):
        def dump(self, obj: Jsonb) -> Any:
            return without_nul_in_json(bytes(super().dump(obj) or b""))

    adapters.register_dumper(str, Text)
    adapters.register_dumper(Jsonb, Json)
