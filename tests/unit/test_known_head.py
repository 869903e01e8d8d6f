"""A head is kept only if the data was one request, whole and alone."""

from __future__ import annotations

import pytest

from tfserve.web.http.exchange import RequestHead
from tfserve.web.http.known_head import MAX_BYTES, KnownHead

HEAD = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\n"
READ = RequestHead({"path": "/v1/models/m:predict"}, {})


def test_a_request_with_the_same_head_has_another_body() -> None:
    known = KnownHead.of(HEAD + b"[12]", b"[12]", READ)
    assert known is not None
    assert known.begins(HEAD + b"[34]")
    assert known.body_of(HEAD + b"[34]") == b"[34]"


@pytest.mark.parametrize("other", [
    HEAD, HEAD + b"[3", HEAD + b"[34]\r\n", HEAD + b"[34]" + HEAD, HEAD.replace(b"here", b"hers") + b"[34]",
    b"\r\n" + HEAD + b"[3",
])  # fmt: skip
def test_other_data_is_not_a_request_with_this_head(other: bytes) -> None:
    known = KnownHead.of(HEAD + b"[12]", b"[12]", READ)
    assert known is not None
    assert not known.begins(other)


@pytest.mark.parametrize(("data", "body"), [
    (HEAD + b"[12]\r\n", b"[12]"),
    (HEAD + b"\r\n\r\n\r\n", b"\r\n\r\n"),
    (HEAD + b"    ", b"   "),
    (HEAD.replace(b"\r\n", b"\n") + b"[12]", b"[12]"),
    (HEAD.replace(b"here", b"h" * MAX_BYTES) + b"[12]", b"[12]"),
])  # fmt: skip
def test_data_that_is_more_than_a_head_and_its_body_is_not_kept(data: bytes, body: bytes) -> None:
    assert KnownHead.of(data, body, READ) is None
