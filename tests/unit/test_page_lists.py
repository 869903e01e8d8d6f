"""What the console shows of variables, settings and filters."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tfserve import config
from tfserve.errors import Invalid
from tfserve.setting_sources import sources, with_sources
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
    passed = with_sources(settings, given)
    assert sources(passed) == {"max_queue": "environment", "port": "command line"}
    assert sources({}) == {}


@pytest.mark.parametrize("in_environment", ["9001", "no port"])
def test_the_command_line_is_the_source_of_what_it_overrides(in_environment: str) -> None:
    given = {"TFSERVE_PORT": in_environment}
    assert sources(with_sources(config.load({"port": 9000}, given), given)) == {"port": "command line"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "8_000", "TFSERVE_PORT must be int, got '8_000'"), ("PORT", "\u0661", "must be int"),
        ("DRAIN_S", "nan", "TFSERVE_DRAIN_S must be float, got 'nan'"), ("DRAIN_S", "1_0", "must be float"),
        ("DRAIN_S", "inf", "must be float"),
    ],
)  # fmt: skip
def test_a_setting_is_a_number_as_people_write_it(name: str, value: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        config.load({}, {f"TFSERVE_{name}": value})
    assert config.load({}, {"TFSERVE_DRAIN_S": " 1.5 ", "TFSERVE_PORT": "8001"}).drain_s == 1.5
    with pytest.raises(Invalid, match="drain_s must be a finite number, got nan"):
        config.load({"drain_s": float("nan")}, {})


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@secret@h/db", "postgresql://…@h/db"),
        ("postgresql://u:secret/secret@h/db", "postgresql://…@h/db"),
        ("postgresql://h/db?user=u&password=secret&x=1", "postgresql://h/db?user=u&password=…&x=1"),
        ("postgresql://h/db?sslPassword=secret", "postgresql://h/db?sslPassword=…"),
        ("postgresql://u:secret@h/db?password=secret@", "postgresql://…@"),
        ("postgresql://h/db", "postgresql://h/db"),
    ],
)
@pytest.mark.usefixtures("django_settings")
def test_no_part_of_a_password_is_shown(url: str, shown: str) -> None:
    from tfserve.web.pages.settings_page import rows

    found = {row.name: row.value for row in rows(config.Settings(database_url=url), {})}
    assert found["database_url"] == shown


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


@pytest.mark.usefixtures("django_settings")
def test_the_pages_of_a_long_list_have_every_row_once_however_long_its_rows_are() -> None:
    from django.http import QueryDict

    from tfserve.web.pages import listing

    rows = ["x" * (1 + number * 37 % 90) for number in range(200)] + ["y" * 5000]
    seen, query = [], "kept=1"
    while True:
        shown = listing.fitting(QueryDict(query), "rows", rows, 400, len)
        assert sum(map(len, shown.rows)) <= 400 or len(shown.rows) == 1
        assert (shown.range.first, shown.range.total) == (len(seen) + 1, len(rows))
        assert bool(shown.range.newer) == bool(seen)
        seen += shown.rows
        if not shown.range.older:
            break
        query = shown.range.older.removeprefix("?")
    assert seen == rows
    assert "kept=1" in query


@pytest.mark.usefixtures("django_settings")
def test_an_edited_page_number_shows_a_page() -> None:
    from django.http import QueryDict

    from tfserve.web.pages import listing

    for query in ("rows=999", "rows=-1", "rows=x", "rows=99999999999999999999"):
        assert listing.fitting(QueryDict(query), "rows", ["a", "b"], 400, len).rows
    assert listing.fitting(QueryDict(""), "rows", [], 400, len) == ([], listing.Range(1, 0, 0, "", ""))


@pytest.mark.usefixtures("django_settings")
@pytest.mark.parametrize("text", ["short", '"' * 3000, "图" * 3000, "x" * 3000])
def test_a_text_is_cut_to_what_it_takes_on_a_page(text: str) -> None:
    from tfserve.web.pages import listing

    shown = listing.fitted(text, 600)
    assert text.startswith(shown)
    assert listing.escaped_size(shown) <= 600
    assert shown == text or listing.escaped_size(shown) > 500


@pytest.mark.usefixtures("django_settings")
def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    from tfserve.web.pages.templatetags.units import ends

    assert ends("short", 10) == "short"
    assert ends("a" * 1000 + "the cause", 20) == "aaaaaaaaaa … 989 characters left out … athe cause"


@pytest.mark.usefixtures("django_settings")
def test_a_program_is_escaped_only_where_html_needs_it() -> None:
    from tfserve.web.pages.templatetags.units import code

    assert code("""print("a" < 'b' & 1) </script>""") == """print("a" &lt; 'b' &amp; 1) &lt;/script&gt;"""


@pytest.mark.usefixtures("django_settings")
def test_tensors_are_rows_of_their_signatures() -> None:
    from django.http import QueryDict

    from tfserve.web.pages import signature_rows

    tensor = {"name": "x", "dtype": "float32", "shape": [-1, 2]}
    signatures = {"empty": {"inputs": [], "outputs": []}, "double": {"inputs": [tensor], "outputs": [tensor] * 200}}
    shown = signature_rows.shown(QueryDict(""), signatures)
    assert [(row.signature, row.direction, row.is_first) for row in shown.rows[:3]] == [
        ("empty", "", True), ("double", "in", True), ("double", "out", False),
    ]  # fmt: skip
    assert shown.range.total == 202
    assert shown.range.older


@pytest.mark.usefixtures("django_settings")
def test_the_end_of_a_token_is_shown_from_the_text_of_the_api() -> None:
    from tfserve.web.pages.templatetags.units import exactly

    assert exactly("2026-03-01T12:30:59+00:00").endswith(">2026-03-01 12:30 UTC</time>")
