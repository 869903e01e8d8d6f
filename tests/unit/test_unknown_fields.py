"""Misspelt fields in the workspace API cause a warning, not an error."""

from __future__ import annotations

import contextlib

import msgspec
import pytest

from tfserve.errors import Invalid
from tfserve.web.api.json_requests import RequestReader
from tfserve.web.api.workspace import requests
from tfserve.web.api.workspace.requests import Empty, PushJob


def warnings_of(body: bytes, request: type = PushJob) -> list[str]:
    warnings: list[str] = []
    RequestReader(request).read(body, warnings)
    return warnings


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("time_out", "timeout"),
        ("timeLimit", "time_limit"),
        ("TYPE", "type"),
        ("claer", "clear"),
        ("time-limit", "time_limit"),
    ],
)
def test_a_misspelt_field_is_named_with_the_one_that_was_meant(given: str, meant: str) -> None:
    body = b'{"%s": 1, "name": "w", "job": "x"}' % given.encode()
    assert warnings_of(body) == [f"unknown field {given!r}; did you mean {meant!r}?"]


def test_a_very_large_request_is_not_searched_for_unknown_fields() -> None:
    """Its names would be built while no other request of the process can run."""
    others = b"".join(b'"k%d": 1, ' % n for n in range(60_000))
    (warning,) = warnings_of(b'{%b"name": "w", "job": "x"}' % others)
    assert "very large" in warning


def test_a_field_like_none_gets_the_list() -> None:
    (warning,) = warnings_of(b'{"name": "w", "job": "x", "colour": "red"}')
    assert warning.startswith("unknown field 'colour'; the fields are name, timeout,")
    assert warnings_of(b'{"x": [1, {"y": 2}]}', Empty) == ["unknown field 'x'; this request has no fields"]


def test_a_right_request_has_no_warnings() -> None:
    assert warnings_of(b'{"name": "w", "job": "x", "timeout": 3}') == []
    assert warnings_of(b"", Empty) == []


def test_the_warnings_come_along_with_an_error() -> None:
    warnings: list[str] = []
    with pytest.raises(Invalid, match="missing required field `name`"):
        RequestReader(PushJob).read(b'{"nmae": "w", "job": "x"}', warnings)
    assert warnings == ["unknown field 'nmae'; did you mean 'name'?"]


@pytest.mark.parametrize("body", [b'{"a": 1, "name": }', b'{"a": 1', b'{"a": 1} x', b'{"a": 1, "name": 5, "job": ""}'])
def test_what_is_wrong_behind_an_unknown_field_is_still_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        warnings_of(body)


def test_there_is_an_end_to_warnings() -> None:
    fields = b", ".join(b'"%s%d": 0' % (b"x" * 10_000, n) for n in range(1000))
    warnings = warnings_of(b'{"name": "w", "job": "x", ' + fields + b"}")
    assert warnings[-1] == "980 more unknown fields"
    assert sum(map(len, warnings)) < 10_000


REQUESTS = [each for each in vars(requests).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.__name__)
def test_every_request_of_the_workspace_api_warns(request_: type) -> None:
    warnings: list[str] = []
    with contextlib.suppress(Invalid):
        RequestReader(request_).read(b'{"nane": "w"}', warnings)
    assert warnings[0].startswith("unknown field 'nane'; ")
