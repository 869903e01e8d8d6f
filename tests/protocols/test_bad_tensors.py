"""Bad tensors, in every protocol that can say such a thing: refused in time and with a reason, or exact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf, isnan, nan
from typing import Any

import pytest

from tests.protocols import echo
from tests.protocols.asking import PROTOCOLS, ComputeRequest, Tensor, Told
from tests.protocols.grpc_port import Port, port, real_model

__all__ = ["port", "real_model"]

GOOD = ComputeRequest()
WITH_SHAPES = ["v2 REST", "v2 REST bytes", "v2 gRPC", "v1 gRPC"]
WITH_LISTS = ["v1 REST", "v2 REST", "workspaces"]
WITH_TYPES = WITH_SHAPES
WITH_NUMBERS = [name for name in PROTOCOLS if name != "v2 REST bytes"]
WITH_TENSOR_LISTS = ["v2 REST", "v2 REST bytes", "v2 gRPC"]
WITH_OUTPUTS = [name for name in PROTOCOLS if name != "v1 REST"]


@pytest.fixture(scope="module")
def one(port: Port) -> Port:
    """With `one`, which has an identity signature for every type, [-1, 3]."""
    port.deploy("one", echo.write(port.server.roots / "one.echo", two=echo.TWO))
    return port


@pytest.fixture(autouse=True)
def alive(one: Port) -> Iterator[None]:
    """After each fault the server lives, and another model predicts."""
    yield
    assert one.server.http.get("/v2/health/live").status_code == 200
    assert PROTOCOLS["v2 REST"](
        one, ComputeRequest(model="x", signature="", inputs=[Tensor(shape=[1, 4], values=[1] * 4)])
    )


def ask(port: Port, protocol: str, asked: ComputeRequest) -> Told:
    return PROTOCOLS[protocol](port, asked)


def assert_refused(port: Port, protocol: str, asked: ComputeRequest, *words: str) -> None:
    told = ask(port, protocol, asked)
    assert told.status == 400, told
    assert all(word in told.text for word in words), told.text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_good_request_returns_as_it_was_sent(one: Port, protocol: str) -> None:
    assert ask(one, protocol, GOOD).values == [1, 2, 3]
    assert (
        ask(one, protocol, replace(GOOD, signature="BYTES").of(datatype="BYTES", values=TEXT[protocol])).status == 200
    )


TEXT: dict[str, list[Any]] = {name: [b"a", b"", "ä".encode()] for name in PROTOCOLS} | {"v2 REST": ["a", "", "ä"]}


@pytest.mark.parametrize("shape", [[-1, 3], [1, -3], [2**62, 3], [2**40, 3], [2**31, 2**33], [3], [1, 1, 3]])
@pytest.mark.parametrize("protocol", WITH_SHAPES)
def test_impossible_and_huge_shapes_are_refused_before_anything_is_allocated(
    one: Port, protocol: str, shape: list[int]
) -> None:
    assert_refused(one, protocol, GOOD.of(shape=shape), "x")


@pytest.mark.parametrize("count", [2, 4, 7])
@pytest.mark.parametrize("protocol", WITH_SHAPES)
def test_a_wrong_number_of_elements_is_refused(one: Port, protocol: str, count: int) -> None:
    if protocol == "v1 gRPC" and count < 3:
        pytest.skip("the last value of a TensorProto stands for the rest")
    assert_refused(one, protocol, GOOD.of(values=[1] * count), "x")


@pytest.mark.parametrize("rows", [[[1, 2, 3], [4]], [[1, 2, 3], 4], [[1], [2, 3, 4]], [[1, 2, [3]]]])
@pytest.mark.parametrize("protocol", WITH_LISTS)
def test_ragged_lists_are_refused(one: Port, protocol: str, rows: Any) -> None:
    assert_refused(one, protocol, GOOD.of(shape=[2, 3], nested=rows))


@pytest.mark.parametrize("datatype", ["FP33", "fp32", ""])
@pytest.mark.parametrize("protocol", WITH_TYPES)
def test_an_unknown_type_is_refused(one: Port, protocol: str, datatype: str) -> None:
    assert_refused(one, protocol, GOOD.of(datatype=datatype))


@pytest.mark.parametrize("datatype", ["FP64", "INT32", "INT64"])
@pytest.mark.parametrize("protocol", WITH_TYPES)
def test_another_type_than_that_of_the_input_is_refused(one: Port, protocol: str, datatype: str) -> None:
    assert_refused(one, protocol, GOOD.of(datatype=datatype), "x")


@pytest.mark.parametrize("value", ["1", None, [], {}, True])
@pytest.mark.parametrize("protocol", WITH_LISTS)
def test_a_value_of_another_type_is_refused(one: Port, protocol: str, value: Any) -> None:
    assert_refused(one, protocol, GOOD.of(values=[1, value, 3]))


@pytest.mark.parametrize("value", [256, -1, 2**31 - 1])
@pytest.mark.parametrize("protocol", WITH_NUMBERS)
def test_a_number_out_of_range_is_refused(one: Port, protocol: str, value: int) -> None:
    if protocol == "v2 gRPC" and value < 0:
        pytest.skip("unsigned values have a list that takes no others")
    assert_refused(one, protocol, replace(GOOD, signature="UINT8").of(datatype="UINT8", values=[1, value, 3]), "x")


@pytest.mark.parametrize("value", [2**64, 10**400, 1e400, 0.5])
@pytest.mark.parametrize("protocol", WITH_LISTS)
def test_a_number_that_no_integer_can_be_is_refused(one: Port, protocol: str, value: float) -> None:
    asked = replace(GOOD, signature="INT64").of(datatype="INT64", values=[1, value, 3])
    if value == inf:
        return assert_refused_text(one, protocol, asked)
    return assert_refused(one, protocol, asked)


def assert_refused_text(port: Port, protocol: str, asked: ComputeRequest) -> None:
    """httpx writes no infinity, so a number that is written 1e400 stands for it."""
    paths = {"v1 REST": "/v1/models/one:predict", "v2 REST": "/v2/models/one/infer", "workspaces": "/predict/"}
    bodies = {
        "v1 REST": b'{"signature_name": "INT64", "inputs": [[1, 1e400, 3]]}',
        "v2 REST": b'{"parameters": {"signature": "INT64"}, "inputs": [{"name": "x", "shape": [1, 3], '
        b'"datatype": "INT64", "data": [1, 1e400, 3]}]}',
        "workspaces": b'{"name": "one", "fetches": "x", "signature": "INT64", "feed_dict": {"x": [[1, 1e400, 3]]}, '
        b'"timeout": 30}',
    }
    answer = port.server.http.post(paths[protocol], content=bodies[protocol])
    content = json.loads(answer.content)
    assert answer.status_code == 400 or content["result"]["state"] == "failed", content


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_integers_beyond_the_reach_of_a_double_stay_exact(one: Port, protocol: str, value: int) -> None:
    asked = replace(GOOD, signature="INT64").of(datatype="INT64", values=[1, value, 3])
    assert ask(one, protocol, asked).values == [1, value, 3]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unknown_input_is_refused_with_those_that_exist(one: Port, protocol: str) -> None:
    assert_refused(one, protocol, GOOD.of(name="z"), "'x'")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_missing_input_is_refused_with_those_that_exist(one: Port, protocol: str) -> None:
    first = Tensor(name="a", shape=[1, 2], values=[1, 2])
    outputs = ["b"] if protocol == "workspaces" else []
    assert_refused(one, protocol, ComputeRequest(signature="two", inputs=[first], outputs=outputs), "'b'")


@pytest.mark.parametrize("protocol", WITH_TENSOR_LISTS)
def test_an_input_that_is_there_twice_is_refused(one: Port, protocol: str) -> None:
    assert_refused(one, protocol, replace(GOOD, inputs=[Tensor(), Tensor()]), "x")


@pytest.mark.parametrize("protocol", WITH_OUTPUTS)
def test_an_unknown_output_is_refused_with_those_that_exist(one: Port, protocol: str) -> None:
    assert_refused(one, protocol, replace(GOOD, outputs=["z"]), "'x'")


@pytest.mark.parametrize("protocol", ["v2 REST", "v2 REST bytes", "v2 gRPC", "v1 gRPC"])
def test_an_output_that_is_requested_twice_is_refused(one: Port, protocol: str) -> None:
    assert_refused(one, protocol, replace(GOOD, outputs=["x", "x"]), "x")


@pytest.mark.parametrize("protocol", ["v2 REST bytes", "v2 gRPC", "v1 gRPC"])
def test_nan_and_infinities_are_exact_or_refused_where_json_has_no_word_for_them(one: Port, protocol: str) -> None:
    told = ask(one, protocol, GOOD.of(values=[nan, inf, -inf]))
    if protocol == "v2 REST bytes":
        assert told.status == 400, told
        assert "'x'" in told.text
    else:
        assert isnan(told.values[0])
        assert told.values[1:] == [inf, -inf]


def test_v1_alone_writes_bare_nan(one: Port) -> None:
    answer = one.server.http.post("/v1/models/one:predict", content=b'{"inputs": [[NaN, Infinity, -Infinity]]}')
    assert answer.text.replace(" ", "") == '{"outputs":[[NaN,Infinity,-Infinity]]}'


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_and_bytes_in_answers_are_json_that_strict_parsers_read(one: Port, datatype: str) -> None:
    for protocol in ("v1 REST", "workspaces"):
        asked = replace(GOOD, signature=datatype).of(datatype=datatype, values=[0.5, 1, 2])
        assert ask(one, protocol, asked).values == [0.5, 1, 2]
        octets = replace(GOOD, signature="BYTES").of(datatype="BYTES", values=[b"\xff", b"", b"a"])
        assert ask(one, protocol, octets).status == 200
    assert_refused(one, "v2 REST", replace(GOOD, signature=datatype).of(datatype=datatype), "binary")


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "v2 REST"])
def test_one_bad_request_among_many_fails_alone(real_model: Port, protocol: str) -> None:
    """A record that TensorFlow itself refuses, after all checks of ours."""

    def record(number: int) -> Told:
        octets = b"\x0a\x07garbage" if number == 9 else good_record()
        given = Tensor("inputs", "BYTES", [1], [octets], nested=[octets])
        outputs = ["scores"] if protocol in ("workspaces", "v1 gRPC") else []
        return ask(real_model, protocol, ComputeRequest("real", "classify", [given], outputs))

    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(record, range(20)))
    assert [number for number, each in enumerate(told) if each.status != 200] == [9], told


def good_record() -> bytes:
    from tfserve.web.api.v1.examples_json import encode

    return encode({"x": 1.5})
