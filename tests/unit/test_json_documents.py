"""Every reader of JSON accepts what the standard says, and nothing else, also next to long lists of numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tfserve.errors import Invalid
from tfserve.tensors import tensor_json
from tfserve.tensors.json_numbers import LONG, Numbers
from tfserve.web.api.json_requests import RequestReader
from tfserve.web.api.workspace.requests import Predict, PushJob

NOT_JSON = [
    b"", b" ", b"\x00", b"\xa0", b"\xe2\x81\xa0", b"abc", b"a\xe5", b"nul", b"tru", b"fals", b"True", b"None", b"'x'",
    b"\xff", b"[", b"]", b"{", b"}", b"[}", b"{]", b"[1", b"[1,", b"[,", b"[,1]", b"[1,,2]", b"[1,]", b"[1 2]",
    b"[1:2]", b"[[1]", b"[1]]", b"[*]", b"[<null>]", b"[undefined]", b"[1\n", b"[\x0c]", b"[\"a\",\n4\n,1,",
    b"{1: 2}", b"{a: 1}", b"{'a': 1}", b'{"a"}', b'{"a" 1}', b'{"a":}', b'{"a":1,}', b'{"a":1,,"b":2}',
    b'{"a":1 "b":2}', b'{"a":1,"b"}', b'{"a":/**/1}', b'{"a":1}/**/', b'{"a":1}//', b'{"a":1}#', b'{:1}', b'{"a"::1}',
    b'{null:null}', b"-", b"+1", b"++1", b"-.1", b".1", b"1.", b"1.e1", b"01", b"-01", b"00", b"0x1", b"1e", b"1e+",
    b"1E-", b"0.1.2", b"1 000", b"1_0", b"-a", b"1a", b"Inf", b"-Inf", b"+Inf", b"nan", b"\xef\xbc\x91", b"1\xe5",
    b"0e", b"2.e3", b"- 1", b"0b1", b"1f", b'"', b'"a', b"\"\\\"", b'"\\', b'"\\x00"', b'"\\u"', b'"\\u1"',
    b'"\\u00"', b'"\\u00G0"', b'"\\a"', b'"\\ "', b'"\\\xf0"', b'"\n"', b'"\t"', b'"\x00"', b'"\x1f"', b'"\xff"',
    b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"a"b', b'""x',
]  # fmt: skip

NO_STANDARD = [b"NaN", b"Infinity", b"-Infinity"]
"""Numbers of TensorFlow Serving's JSON."""

JSON = [
    b"null", b"true", b"false", b"0", b"-0", b"-0.0", b"1e5", b"1E-5", b"1e+5", b"0e1", b"123.456e-7",
    b"1.7976931348623157e308", b"5e-324", b"0." + b"0" * 300 + b"1", b"9223372036854775808", b"-9223372036854775808",
    b"1" * 40, b'""', b'"\\u0000"', b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', b'"\\uD834\\uDd1e"', b'"\x7f"',
    b'"\xc2\x80\xe2\x80\xa8\xf4\x8f\xbf\xbf"', b'"[1, 2]{}"', b'"\\\\"', b'"\\\\\\""', b"[]", b"[[]]",
    b"[null, 1, \"1\", {}]", b"[1\n\r\t ,2]", b" [1] ", b"[1.0,2]", b"{}", b'{"":0}', b'{"a":1,"a":2}', b'{"a":[]}',
    b'{"\\u0000":1}', b'{"\xe2\x82\xac":{"b":[{}]}}', b"[" * 60 + b"]" * 60,
]  # fmt: skip

LONG_LIST = json.dumps([[number / 2, -number] for number in range(LONG // 8)]).encode()[1:-1]


def embedded(document: bytes) -> Iterator[bytes]:
    """Bodies that are JSON if the document is."""
    yield b'{"name": "a", "fetches": "y", "job": "z", "feed_dict": {"x": ' + document + b"}}"
    yield b'{"name": "a", "fetches": "y", "job": "z", "unused": {"x": ' + document + b"}}"
    for pieces in ((LONG_LIST, document), (document, LONG_LIST)):
        yield b'{"name": "a", "fetches": "y", "job": "z", "feed_dict": {"x": [' + b", ".join(pieces) + b"]}}"
    yield b'{"name": "a", "fetches": "y", "job": "z", "feed_dict": {"x": [' + LONG_LIST + b'], "y": ' + document + b"}}"
    yield b'{"name": "a", "fetches": "y", "job": "z", "feed_dict": {"y": ' + document + b', "x": [' + LONG_LIST + b"]}}"


def read_all(decode: Callable[[bytes], Any], body: bytes) -> None:
    """Reads the long lists too, which decoding leaves for later."""
    pending = [decode(body)]
    while pending:
        value = pending.pop()
        if isinstance(value, Numbers):
            tensor_json.plain(value)
        elif isinstance(value, dict | list):
            pending += value.values() if isinstance(value, dict) else value


def is_accepted(read: Callable[[bytes], object], body: bytes) -> bool:
    try:
        read(body)
    except Invalid:
        return False
    return True


READERS: dict[str, Callable[[bytes], object]] = {
    "v2": lambda body: read_all(tensor_json.decode, body),
    "v1": lambda body: read_all(tensor_json.decode_leniently, body),
    "/predict/": lambda body: RequestReader(Predict).read(body, []),
    "/push_job/": lambda body: RequestReader(PushJob).read(body, []),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_not_json_is_refused_wherever_it_is_in_a_body(name: str) -> None:
    for document in NOT_JSON + (NO_STANDARD if name != "v1" else []):
        for body in embedded(document):
            assert not is_accepted(READERS[name], body), document


@pytest.mark.parametrize("name", READERS)
def test_whatever_is_json_can_be_in_a_body(name: str) -> None:
    for document in JSON + (NO_STANDARD if name == "v1" else []):
        for body in embedded(document):
            assert is_accepted(READERS[name], body), document
