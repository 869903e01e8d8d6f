"""What the console shows of variables, settings and filters."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tfserve import config
from tfserve.web.pages.variable_rows import variable_rows


@pytest.mark.parametrize(
    ("value", "type_name", "shape", "excerpt"),
    [
        (20, "int", "", "20"),
        (0.5, "float", "", "0.5"),
        (None, "None", "", ""),
        (True, "bool", "", "true"),
        ("flowers", "str", "7", "flowers"),
        ([1, 2, 3], "list", "3", "[1,2,3]"),
        ([[1, 2], [3, 4], [5, 6]], "list", "3 × 2", "[[1,2],[3,4],[5,6]]"),
        ([[1, 2], [3]], "list", "2", "[[1,2],[3]]"),
        ([], "list", "0", "[]"),
        ({"a": 1}, "dict", "1", '{"a":1}'),
        ("<module 'os' (frozen)>", "module", "", "<module 'os' (frozen)>"),
        ("<function f at 0x7f>", "function", "", "<function f at 0x7f>"),
        ("<b>bold</b>", "str", "11", "<b>bold</b>"),
        (
            {"summary": True, "type": "ndarray", "shape": [1000, 4], "dtype": "float32", "values": [1, 2]},
            "ndarray float32", "1000 × 4", "[1, 2] …",
        ),
        ({"summary": True}, "", "", "too large to show"),
    ],
)  # fmt: skip
def test_a_variable_has_type_shape_and_excerpt(value: Any, type_name: str, shape: str, excerpt: str) -> None:
    (row,) = variable_rows(json.dumps({"x": value}))
    assert (row.type, row.shape, row.excerpt) == (type_name, shape, excerpt)


@pytest.mark.parametrize(
    ("value", "facts", "type_name", "shape"),
    [
        ([[1, 2], [3, 4]], {"type": "ndarray", "shape": [2, 2], "dtype": "float32"}, "ndarray float32", "2 × 2"),
        (3.5, {"type": "float32", "shape": [], "dtype": "float32"}, "float32", ""),
        ([1, 2], {"type": "tuple", "length": 2}, "tuple", "2"),
        ("a,b\n1,2\n", {"type": "DataFrame", "shape": [1, 2]}, "DataFrame", "1 × 2"),
        ({"b64": "AAE="}, {"type": "bytes", "length": 2}, "bytes", "2"),
        (None, {"type": "float"}, "float", ""),
        (None, {"type": "NoneType"}, "None", ""),
        ("<class 'x'>", {"type": "ABCMeta"}, "class", ""),
        ("<class 'x'>", {"type": "str", "length": 11}, "str", "11"),
        ({"summary": True, "type": "list", "length": 9, "values": [1]}, {"type": "list", "length": 9}, "list", "9"),
    ],
)  # fmt: skip
def test_types_are_those_that_the_worker_reports(value: Any, facts: Any, type_name: str, shape: str) -> None:
    (row,) = variable_rows(json.dumps({"x": value}), json.dumps({"x": facts}))
    assert (row.type, row.shape) == (type_name, shape)


def test_modules_and_functions_are_the_last_variables() -> None:
    snapshot = {"np": "<module 'numpy'>", "b": 1, "A": 2}
    assert [row.name for row in variable_rows(json.dumps(snapshot))] == ["A", "b", "np"]


def test_a_long_value_is_cut_off() -> None:
    (row,) = variable_rows(json.dumps({"x": "y" * 1000}))
    assert row.excerpt == "y" * 120 + "…"


def test_the_sources_of_settings_are_passed_on() -> None:
    given = {"TFSERVE_MAX_QUEUE": "7", "TFSERVE_KEEP_DAYS": "30"}
    settings = config.load({"port": 9000}, given)
    passed = config.with_sources(settings, given)
    assert config.sources(passed) == {"max_queue": "environment", "port": "command line"}
    assert config.sources({}) == {}


@pytest.fixture
def django_settings(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Django, which may be set up once in a process."""
    import django

    monkeypatch.setenv("TFSERVE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
    django.setup()


@pytest.mark.usefixtures("django_settings")
def test_settings_are_shown_without_passwords() -> None:
    from tfserve.web.pages.settings_page import rows

    settings = config.Settings(
        database_url="postgresql://user:secret@db:5432/x", callback_url="http://u:secret@hook/", max_body_bytes=2**30
    )
    shown = {row.name: row for row in rows(settings, {"database_url": "environment"})}
    assert shown["database_url"].value == "postgresql://…@db:5432/x"
    assert "secret" not in str(list(shown.values()))
    assert (shown["max_body_bytes"].value, shown["drain_s"].value) == ("1.0 GiB", "10 s")
    assert (shown["database_url"].source, shown["port"].source) == ("environment", "")


@pytest.mark.usefixtures("django_settings")
def test_a_link_keeps_the_filters_and_begins_at_the_first_page() -> None:
    from django.http import QueryDict

    from tfserve.web.pages import listing

    query = QueryDict("q=a%26b&state=failed&before=7")
    assert listing.link(query, {"state": ""}) == "?q=a%26b"
    assert listing.link(query, {"before": 5}) == "?q=a%26b&state=failed&before=5"
    chosen = [chip.label for chip in listing.chips(query, "state", {"": "All", "failed": "Failed"}) if chip.is_current]
    assert chosen == ["Failed"]


@pytest.mark.usefixtures("django_settings")
@pytest.mark.parametrize(
    ("query", "first", "last", "newer", "older"),
    [
        ("", 1, 40, "", "?offset=40"),
        ("offset=40", 41, 80, "?offset=0", "?offset=80"),
        ("offset=80", 81, 100, "?offset=40", ""),
        ("offset=999", 81, 100, "?offset=40", ""),
        ("offset=no", 1, 40, "", "?offset=40"),
    ],
)
def test_a_range_has_links_to_the_pages_next_to_it(query: str, first: int, last: int, newer: str, older: str) -> None:
    from django.http import QueryDict

    from tfserve.web.pages import listing

    assert listing.shown_range(QueryDict(query), "offset", 40, 100) == listing.Range(first, last, 100, newer, older)


@pytest.mark.usefixtures("django_settings")
def test_a_relative_time_has_the_exact_one_on_hover() -> None:
    from tfserve.web.pages.templatetags.units import ago

    shown = ago(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert 'title="2026-01-02 03:04:05 UTC"' in shown
    assert ago("2026-01-02T03:04:05+00:00") == shown
    assert "just now" in ago(datetime.now(UTC))
