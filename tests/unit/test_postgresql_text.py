"""JSON that PostgreSQL can store."""

from __future__ import annotations

import json

import pytest

from tfserve.db.postgresql_text import without_nul_in_json


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("c\0at", "c\ufffdat"),
        ("\0\0", "\ufffd\ufffd"),
        ("\\u0000", "\\u0000"),
        ("\\\0", "\\\ufffd"),
        ("\\\\u0000\0", "\\\\u0000\ufffd"),
        ({"a\0": ["größe", 1.5, None]}, {"a\ufffd": ["größe", 1.5, None]}),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_only_nul_characters_are_replaced(value: object, stored: object, *, ascii_only: bool) -> None:
    assert json.loads(without_nul_in_json(json.dumps(value, ensure_ascii=ascii_only).encode())) == stored
