"""REST and gRPC give the same answer to the same odd request: status, message and numbers, in v1 and in v2.

Each request is written once and sent over both edges of one server.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from tests.protocols import echo
from tests.protocols.grpc_port import STATUS, Port, tensor
from tfserve.tensors.dtypes import DTYPES
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.protos import tensorflow_pb2 as tf
from tfserve.web.api.protos import tfserving_pb2 as v1

HTTP = {
    "OK": (200,), "INVALID_ARGUMENT": (400,), "UNAUTHENTICATED": (401,), "PERMISSION_DENIED": (403,),
    "NOT_FOUND": (404,), "FAILED_PRECONDITION": (409,), "RESOURCE_EXHAUSTED": (413, 429, 507), "INTERNAL": (500,),
    "UNIMPLEMENTED": (501,), "UNAVAILABLE": (503,), "DEADLINE_EXCEEDED": (504,),
}  # fmt: skip
"""gRPC's statuses → HTTP's."""

OF_V2 = {dtype.v2: dtype for dtype in DTYPES.values()}
CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
TFS_PREFIX = re.compile(
    r"^(Failed to process element: \d+ of 'instances' list(\.|:)( Error:)? )?"
    r"(Failed to write JSON value for tensor type \w+\. |Conversion of JSON Value to type: \w+ is not possible\. )?"
)
"""What v1 writes over REST in front of the message, because TensorFlow Serving does."""


@dataclass(frozen=True)
class Response:
    """`content` has the numbers of a response, or nothing."""

    code: str
    message: str = ""
    content: Any = None


def assert_same(rest: Response, over_grpc: Response, status: int) -> None:
    assert int(rest.code) == status, (rest, over_grpc)
    assert status in HTTP[over_grpc.code], (rest, over_grpc)
    assert rest.message == over_grpc.message
    assert repr(rest.content) == repr(over_grpc.content)


def of_grpc(call: Callable[[], Any]) -> Response:
    try:
        return Response("OK", "", call())
    except grpc.RpcError as error:
        return Response(error.code().name, str(error.details()))


def of_rest(response: httpx.Response, read: Callable[[httpx.Response], Any]) -> Response:
    if response.status_code == 200:
        return Response("200", "", read(response))
    (message,) = response.json().values()
    return Response(str(response.status_code), TFS_PREFIX.sub("", message))


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    """With `m`, an echo model of every datatype, and `real`, a model of TensorFlow that classifies and regresses."""
    port = Port(tmp_path_factory.mktemp("edges"))
    free = {"x": {"dtype": "float32", "shape": None}}
    port.deploy("m", echo.write(port.server.roots / "m.echo", two=echo.TWO, free=free))
    port.deploy("é", echo.write(port.server.roots / "named.echo"))
    program, folder = Path(__file__).with_name("make_v1_model.py"), port.server.roots / "real"
    subprocess.run([sys.executable, program, folder], check=True, capture_output=True)
    port.deploy("real", folder)
    yield port
    port.close()


# --- version 2


@dataclass(frozen=True)
class Input:
    """`data` is raw bytes, or a list of values: flat JSON in REST and typed contents in gRPC."""

    name: str = "x"
    datatype: str = "FP32"
    shape: Sequence[int] = (1, 3)
    data: bytes | Sequence[Any] = np.ones((1, 3), np.float32).tobytes()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Infer:
    model: str = "m"
    version: str = ""
    inputs: Sequence[Input] = (Input(),)
    outputs: Sequence[str | tuple[str, Mapping[str, Any]]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str = "an id"

    def parts(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(each, {}) if isinstance(each, str) else each for each in self.outputs]


def infer_by_rest(port: Port, asked: Infer) -> Response:
    inputs: list[dict[str, Any]] = []
    for each in asked.inputs:
        head = {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)}
        if isinstance(each.data, bytes):
            inputs.append({**head, "parameters": {"binary_data_size": len(each.data), **each.parameters}})
        else:
            inputs.append({**head, "data": [text(value) for value in each.data], "parameters": each.parameters})
    outputs = [{"name": name, "parameters": parameters} for name, parameters in asked.parts()]
    parameters = {"binary_data_output": True, **asked.parameters}
    head_ = json.dumps({"id": asked.id, "inputs": inputs, "outputs": outputs, "parameters": parameters}).encode()
    tail = b"".join(each.data for each in asked.inputs if isinstance(each.data, bytes))
    version = f"/versions/{asked.version}" if asked.version else ""
    return of_rest(
        port.server.http.post(
            f"/v2/models/{asked.model}{version}/infer",
            content=head_ + tail,
            headers={"Inference-Header-Content-Length": str(len(head_))},
        ),
        binary_outputs,
    )


def text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def binary_outputs(response: httpx.Response) -> Any:
    size = int(response.headers["inference-header-content-length"])
    head, tail = json.loads(response.content[:size]), response.content[size:]
    outputs = []
    for each in head["outputs"]:
        end = each["parameters"]["binary_data_size"]
        outputs.append((each["name"], each["datatype"], each["shape"], tail[:end]))
        tail = tail[end:]
    return head["model_name"], head["model_version"], head["id"], outputs


def infer_by_grpc(port: Port, asked: Infer) -> Response:
    request = v2.ModelInferRequest(model_name=asked.model, model_version=asked.version, id=asked.id)
    set_parameters(request.parameters, asked.parameters)
    for each in asked.inputs:
        given = request.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        set_parameters(given.parameters, each.parameters)
        if isinstance(each.data, bytes):
            request.raw_input_contents.append(each.data)
        else:
            getattr(given.contents, CONTENTS.get(each.datatype, "fp32_contents")).extend(each.data)
    for name, parameters in asked.parts():
        set_parameters(request.outputs.add(name=name).parameters, parameters)

    def call() -> Any:
        response = port.call("ModelInfer", request)
        outputs = [
            (each.name, each.datatype, list(each.shape), data)
            for each, data in zip(response.outputs, response.raw_output_contents, strict=True)
        ]
        return response.model_name, response.model_version, response.id, outputs

    return of_grpc(call)


def set_parameters(parameters: Any, values: Mapping[str, Any]) -> None:
    fields = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for name, value in values.items():
        if value is None:
            parameters[name].SetInParent()
        else:
            setattr(parameters[name], fields[type(value)], value)


def x(**fields: Any) -> dict[str, Any]:
    """Changes the only input."""
    return {"inputs": [Input(**fields)]}


def typed(datatype: str, *values: Any, shape: Sequence[int] = (1, 3), **fields: Any) -> dict[str, Any]:
    """A request to the signature of a datatype, which takes [-1, 3]."""
    given = Input(datatype=datatype, shape=shape, data=list(values), **fields)
    return {"inputs": [given], "parameters": {"signature": datatype}}


def raw(datatype: str, data: bytes, shape: Sequence[int] = (1, 3)) -> dict[str, Any]:
    return {"inputs": [Input(datatype=datatype, shape=shape, data=data)], "parameters": {"signature": datatype}}


def packed(*values: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in values)


TWO = [Input("a", "FP32", [1, 2], bytes(8)), Input("b", "BYTES", [1], packed(b"text"))]
FREE = {"signature": "free"}
LIMITS = {
    "UINT8": (-1, 256), "INT8": (-129, 128), "INT16": (-(2**15) - 1, 2**15), "UINT16": (-1, 2**16),
}  # fmt: skip

V2: dict[str, tuple[dict[str, Any], int]] = {
    "a good request": ({}, 200),
    "an empty id": ({"id": ""}, 200),
    # models and versions
    "an unknown model": ({"model": "none"}, 404),
    "a similar model": ({"model": "reel"}, 404),
    "a decomposed name": ({"model": "e\u0301"}, 200),
    **{f"version {word[:20]!r}": ({"version": word}, 404) for word in ("abc", "7", "-1", "1.0", "9" * 30, "9" * 3000)},
    "version 1": ({"version": "1"}, 200),
    "version 01": ({"version": "01"}, 200),
    "a version in other digits": ({"version": "²"}, 404),
    # parameters
    **{f"priority {n}": ({"parameters": {"priority": n}}, 200) for n in (0, 1, 8, 9, 2**62)},
    **{f"priority {n}": ({"parameters": {"priority": n}}, 400) for n in (-5, -1, -(2**62), "high", True, 1.5)},
    **{f"timeout {n}": ({"parameters": {"timeout": n}}, 200) for n in (0, 10**7, 2**63 - 1)},
    **{f"timeout {n}": ({"parameters": {"timeout": n}}, 400) for n in (-1, -(2**63), "long", False, 0.5)},
    "a parameter without a value": ({"parameters": {"priority": None, "timeout": None}}, 200),
    "an unknown parameter": ({"parameters": {"sequence_id": 3, "triton_x": "y"}}, 200),
    "an unknown signature": ({"parameters": {"signature": "none"}}, 400),
    "a similar signature": ({"parameters": {"signature": "serving_defaul"}}, 400),
    "a signature that is a number": ({"parameters": {"signature": 3}}, 400),
    "a non-finite policy that does not exist": ({"parameters": {"non_finite": "maybe"}}, 400),
    "a non-finite policy of another type": ({"parameters": {"non_finite": 1}}, 400),
    "a form of outputs of another type": ({"parameters": {"binary_data_output": "yes"}}, 400),
    # names
    "an unknown input": (x(name="z"), 400),
    "an input without a name": (x(name=""), 400),
    "no input": ({"inputs": []}, 400),
    "an input twice": ({"inputs": [Input(), Input()]}, 400),
    "an input too many": ({"inputs": [Input(), Input("y")]}, 400),
    "a missing input": ({"inputs": TWO[:1], "parameters": {"signature": "two"}}, 400),
    "two inputs in another order": ({"inputs": TWO[::-1], "parameters": {"signature": "two"}}, 200),
    "an unknown output": ({"outputs": ["z"]}, 400),
    "an output without a name": ({"outputs": [""]}, 400),
    "an output twice": ({"outputs": ["x", "x"]}, 400),
    "outputs in another order": ({"inputs": TWO, "outputs": ["b", "a"], "parameters": {"signature": "two"}}, 200),
    # outputs
    "classes": ({"outputs": [("x", {"classification": 2})]}, 200),
    "more classes than there are": ({"outputs": [("x", {"classification": 100})]}, 200),
    "no classes": ({"outputs": [("x", {"classification": 0})]}, 200),
    "negative classes": ({"outputs": [("x", {"classification": -1})]}, 400),
    "classes that are text": ({"outputs": [("x", {"classification": "2"})]}, 400),
    "classes of text": (raw("BYTES", packed(b"a", b"b", b"c")) | {"outputs": [("x", {"classification": 1})]}, 400),
    "an output in shared memory": ({"outputs": [("x", {"shared_memory_region": "r"})]}, 501),
    "an input in shared memory": (x(parameters={"shared_memory_region": "r"}), 501),
    "an empty input in shared memory": (x(shape=[0, 3], data=b"", parameters={"shared_memory_region": "r"}), 501),
    "a form of an output of another type": ({"outputs": [("x", {"binary_data": 1})]}, 400),
    # datatypes
    **{f"datatype {word!r}": (x(datatype=word), 400) for word in ("FP33", "fp32", "", "FP64", "BYTES", "INT32")},
    # shapes
    "another shape": (x(shape=[3, 1]), 400),
    "a single example": (x(shape=[3]), 400),
    "a scalar": (x(shape=[], data=bytes(4)), 400),
    "a dimension too many": (x(shape=[1, 1, 3]), 400),
    "no rows": (x(shape=[0, 3], data=b""), 200),
    **{f"shape {shape}": (x(shape=shape), 400) for shape in ([-1, 3], [1, -3], [2**62, 3], [2**31, 3])},
    **{
        f"any shape {shape[:3]}": ({"inputs": [Input(shape=shape, data=b"")], "parameters": FREE}, status)
        for shape, status in (
            ([0, 2**39], 200), ([0, 2**41], 400), ([0, 2**47], 400), ([2**20, 2**21], 400), ([0] * 33, 400),
            ([2**62, 0], 400), ([0] * 3000, 400), ([-(2**63)], 400),
        )
    },
    # values
    **{f"{size} bytes": (x(data=bytes(size)), 400) for size in (0, 8, 11, 13, 24)},
    **{f"{count} values": (typed("FP32", *[1.0] * count), 400) for count in (0, 2, 4)},
    "bools": (raw("BOOL", b"\0\1\0"), 200),
    "bools of 2": (raw("BOOL", b"\0\2\1"), 400),
    "bools of 255": (raw("BOOL", b"\xff\0\1"), 400),
    "typed bools": (typed("BOOL", True, False, True), 200),
    "NaN and infinities": (x(data=np.array([nan, inf, -inf], np.float32).tobytes()), 200),
    "half floats": (raw("FP16", np.array([1, nan, 6e4], np.float16).tobytes()), 200),
    "brain floats": (raw("BF16", b"\x80\x3f\xc0\x7f\x00\x00"), 200),
    "the largest integers": (typed("INT64", 2**63 - 1, -(2**63), 2**53 + 1), 200),
    "the largest unsigned integers": (typed("UINT64", 2**64 - 1, 0, 2**53 + 1), 200),
    **{
        f"{datatype} of {value}": (typed(datatype, 0, value, 1), 400)
        for datatype, limits in LIMITS.items()
        for value in limits
        if value >= 0 or datatype.startswith("INT")
    },
    # bytes
    "text": (typed("BYTES", b"a", b"", "ä".encode()), 200),
    "bytes that are no UTF-8": (raw("BYTES", packed(b"\xff", b"", b"\xc3")), 200),
    "a truncated length": (raw("BYTES", packed(b"a", b"b") + b"\1\0"), 400),
    "a truncated element": (raw("BYTES", packed(b"a", b"b") + b"\5\0\0\0abc"), 400),
    "a huge length": (raw("BYTES", b"\xff\xff\xff\xff" + bytes(8)), 400),
    "an element too few": (raw("BYTES", packed(b"a", b"b")), 400),
    "an element too many": (raw("BYTES", packed(b"a", b"b", b"c", b"d")), 400),
    "nothing instead of elements": (raw("BYTES", b""), 400),
}  # fmt: skip


@pytest.mark.parametrize("what", V2)
def test_v2_answers_the_same_over_both_edges(edges: Port, what: str) -> None:
    changes, status = V2[what]
    asked = Infer(**changes)
    assert_same(infer_by_rest(edges, asked), infer_by_grpc(edges, asked), status)


MIXED = {
    "data and bytes": (
        {"data": [1, 2, 3], "parameters": {"binary_data_size": 12}},
        {"contents": {"fp32_contents": [1, 2, 3]}},
        [bytes(12)],
    ),
    "bytes that no input has": ({"data": [1, 2, 3]}, {"contents": {"fp32_contents": [1, 2, 3]}}, [b"", bytes(12)]),
    "no values": ({}, {}, []),
}
"""What each edge has its own fields for: the fields of the input in REST, those in gRPC, and all raw bytes."""


@pytest.mark.parametrize("what", MIXED)
def test_values_in_two_places_or_none_are_refused_over_both_edges(edges: Port, what: str) -> None:
    in_json, in_message, pieces = MIXED[what]
    given = {"name": "x", "datatype": "FP32", "shape": [1, 3]}
    head = json.dumps({"inputs": [{**given, **in_json}]}).encode()
    rest = edges.server.http.post(
        "/v2/models/m/infer",
        content=head + b"".join(pieces),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    request = v2.ModelInferRequest(model_name="m", inputs=[{**given, **in_message}], raw_input_contents=pieces)  # type: ignore[list-item]
    over_grpc = of_grpc(lambda: edges.call("ModelInfer", request))
    assert (rest.status_code, over_grpc.code) == (400, "INVALID_ARGUMENT"), (rest.text, over_grpc)


@pytest.mark.parametrize(
    ("rest", "method", "request_", "member"),
    [
        ("/v2", "ServerMetadata", v2.ServerMetadataRequest(), "name"),
        ("/v2/models/m", "ModelMetadata", v2.ModelMetadataRequest(name="m"), "platform"),
        ("/v2/models/m/versions/1", "ModelMetadata", v2.ModelMetadataRequest(name="m", version="1"), "name"),
        ("/v2/models/m/versions/x", "ModelMetadata", v2.ModelMetadataRequest(name="m", version="x"), ""),
        ("/v2/models/none", "ModelMetadata", v2.ModelMetadataRequest(name="none"), ""),
        ("/v2/models/none/config", "ModelConfig", v2.ModelConfigRequest(name="none"), ""),
        ("/v2/models/none/stats", "ModelStatistics", v2.ModelStatisticsRequest(name="none"), ""),
        ("/v2/models/m/versions/9/stats", "ModelStatistics", v2.ModelStatisticsRequest(name="m", version="9"), ""),
    ],
)
def test_models_are_described_the_same_over_both_edges(
    edges: Port, rest: str, method: str, request_: Any, member: str
) -> None:
    by_rest = of_rest(edges.server.http.get(rest), lambda response: response.json()[member])
    by_grpc = of_grpc(lambda: getattr(edges.call(method, request_), member))
    assert_same(by_rest, by_grpc, 200 if member else 404)


# --- version 1


@dataclass(frozen=True)
class Predict:
    """In columns over REST, unless `as_rows`. `dtype` is that of all tensors."""

    model: str = "m"
    inputs: Mapping[str, Any] = field(default_factory=lambda: {"x": [[1, 2, 3]]})
    signature: str = ""
    version: int | None = None
    label: str = ""
    dtype: str = "float32"
    as_rows: bool = False


def path_of(model: str, version: int | None, label: str, verb: str) -> str:
    which = f"/versions/{version}" if version is not None else f"/labels/{label}" if label else ""
    return f"/v1/models/{model}{which}:{verb}"


def spec_of(asked: Predict | Examples) -> v1.ModelSpec:
    spec = v1.ModelSpec(name=asked.model, signature_name=asked.signature)
    if asked.version is not None:
        spec.version.value = asked.version
    if asked.label:
        spec.version_label = asked.label
    return spec


def predict_by_rest(port: Port, asked: Predict) -> Response:
    body: dict[str, Any] = {"signature_name": asked.signature, "inputs": asked.inputs}
    if asked.as_rows:
        columns = body.pop("inputs")
        body["instances"] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    response = port.server.http.post(
        path_of(asked.model, asked.version, asked.label, "predict"), content=json.dumps(body).encode()
    )
    return of_rest(response, lambda each: flat(json.loads(each.content)[("outputs", "predictions")[asked.as_rows]]))


def predict_by_grpc(port: Port, asked: Predict) -> Response:
    request = v1.PredictRequest(model_spec=spec_of(asked))
    for name, value in asked.inputs.items():
        array = np.array(value, np.float64 if asked.dtype.startswith("float") else object)
        request.inputs[name].CopyFrom(tensor(array.shape, DTYPES[asked.dtype].v1))
        field_ = {"float32": "float_val", "int64": "int64_val", "string": "string_val", "bool": "bool_val"}
        values = [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
        getattr(request.inputs[name], field_.get(asked.dtype, "int_val")).extend(values)

    def call() -> Any:
        response = port.ask("Predict", request, v1.PredictResponse)
        return [value for name in response.outputs for value in values_of(response.outputs[name])]

    return of_grpc(call)


def values_of(proto: tf.TensorProto) -> list[Any]:
    lists = (proto.float_val, proto.int_val, proto.int64_val, proto.bool_val)
    return [value for each in lists for value in each] + [each.decode() for each in proto.string_val]


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for each in value for leaf in flat(each)] if isinstance(value, list) else [value]


PREDICT: dict[str, tuple[dict[str, Any], int]] = {
    "a good request": ({}, 200),
    "a good request in rows": ({"as_rows": True}, 200),
    "an unknown model": ({"model": "none"}, 404),
    "a similar model": ({"model": "reel"}, 404),
    "a decomposed name": ({"model": "e\u0301"}, 200),
    "a version": ({"version": 1}, 200),
    "an unknown version": ({"version": 50}, 404),
    "the largest version": ({"version": 2**63 - 1}, 404),
    "a label": ({"label": "stable"}, 400),
    "a label of an unknown model": ({"model": "none", "label": "stable"}, 400),
    "an unknown signature": ({"signature": "none"}, 400),
    "a similar signature": ({"signature": "serving_defaul"}, 400),
    "no input": ({"inputs": {}}, 400),
    "a missing input": ({"inputs": {"a": [[1, 2]]}, "signature": "two"}, 400),
    "a wrong name in rows": ({"inputs": {"z": [[1, 2, 3]]}, "as_rows": True}, 400),
    "a name too many in rows": ({"inputs": {"x": [[1, 2, 3]], "z": [1]}, "as_rows": True}, 400),
    "a missing name in rows": ({"inputs": {"a": [[1, 2]]}, "signature": "two", "as_rows": True}, 400),
    "a single example": ({"inputs": {"x": [1, 2, 3]}}, 400),
    "a scalar": ({"inputs": {"x": 1}}, 400),
    "another width": ({"inputs": {"x": [[1, 2]]}}, 400),
    "a dimension too many": ({"inputs": {"x": [[[1, 2, 3]]]}}, 400),
    "NaN and infinities": ({"inputs": {"x": [[nan, inf, -inf]]}}, 200),
    "text": ({"inputs": {"x": [["a", "", "ä"]]}, "dtype": "string", "signature": "BYTES"}, 200),
    "bools": ({"inputs": {"x": [[True, False, True]]}, "dtype": "bool", "signature": "BOOL"}, 200),
    **{
        f"{datatype} of {value}": (
            {"inputs": {"x": [[0, value, 1]]}, "dtype": OF_V2[datatype].name, "signature": datatype}, 400
        )
        for datatype, limits in LIMITS.items()
        for value in limits
    },
    "large integers": (
        {"inputs": {"x": [[2**63 - 1, -(2**63), 2**53 + 1]]}, "dtype": "int64", "signature": "INT64"}, 200
    ),
    "an output of a type that cannot be sent": (
        {"model": "real", "inputs": {"x": [[1, 2]]}, "signature": "complex"}, 400
    ),
    "a signature that classifies": (
        {"model": "real", "inputs": {"inputs": ["no example"]}, "dtype": "string", "signature": "classify"}, 400
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", PREDICT)
def test_v1_predicts_the_same_over_both_edges(edges: Port, what: str) -> None:
    changes, status = PREDICT[what]
    asked = Predict(**changes)
    assert_same(predict_by_rest(edges, asked), predict_by_grpc(edges, asked), status)


@dataclass(frozen=True)
class Examples:
    """Features of the examples, as in JSON."""

    verb: str = "classify"
    examples: Sequence[Mapping[str, Any]] = ({"x": 1.5, "n": 2, "word": "abc"},)
    context: Mapping[str, Any] | None = None
    signature: str = "classify"
    model: str = "real"
    version: int | None = None
    label: str = ""


def examine_by_rest(port: Port, asked: Examples) -> Response:
    body: dict[str, Any] = {"signature_name": asked.signature, "examples": asked.examples}
    if asked.context is not None:
        body["context"] = asked.context
    path = path_of(asked.model, asked.version, asked.label, asked.verb)
    response = port.server.http.post(path, content=json.dumps(body).encode())
    return of_rest(response, lambda each: flat(json.loads(each.content)["results"]))


def examine_by_grpc(port: Port, asked: Examples) -> Response:
    examples = [example(each) for each in asked.examples]
    given = v1.Input(example_list={"examples": examples})
    if asked.context is not None:
        given = v1.Input(example_list_with_context={"examples": examples, "context": example(asked.context)})

    def call() -> Any:
        spec = spec_of(asked)
        if asked.verb == "regress":
            request = v1.RegressionRequest(model_spec=spec, input=given)
            regressed = port.ask("Regress", request, v1.RegressionResponse)
            return [each.value for each in regressed.result.regressions]
        classified = port.ask(
            "Classify", v1.ClassificationRequest(model_spec=spec, input=given), v1.ClassificationResponse
        )
        return [
            part
            for row in classified.result.classifications
            for each in row.classes
            for part in (each.label, each.score)
        ]

    return of_grpc(call)


def example(features: Mapping[str, Any]) -> tf.Example:
    lists = {str: "bytes_list", float: "float_list", int: "int64_list"}
    message = tf.Example()
    message.features.SetInParent()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        given = [each.encode() if isinstance(each, str) else each for each in values]
        if given:
            getattr(message.features.feature[name], lists[type(values[0])]).value.extend(given)
        else:
            message.features.feature[name].SetInParent()
    return message


EXAMPLES: dict[str, tuple[dict[str, Any], int]] = {
    "classes": ({}, 200),
    "classes without labels": ({"signature": "classify_bare"}, 200),
    "values": ({"verb": "regress", "signature": "regress"}, 200),
    "several examples": ({"examples": [{"x": 1.5}, {"x": -2.25, "word": "ä"}]}, 200),
    "NaN": ({"examples": [{"x": nan}]}, 200),
    "infinity": ({"verb": "regress", "signature": "regress", "examples": [{"x": inf}]}, 200),
    "a context": ({"examples": [{"x": 1.0}], "context": {"n": 3}}, 200),
    "a context that the example overrides": ({"examples": [{"x": 1.0, "n": 5}], "context": {"n": 3, "x": 9.0}}, 200),
    "no examples": ({"examples": []}, 400),
    "no examples with a context": ({"examples": [], "context": {"n": 3}}, 400),
    "an example without features": ({"examples": [{}]}, 400),
    "a feature without values": ({"examples": [{"x": []}]}, 400),
    "too many values": ({"examples": [{"x": [1.0, 2.0]}]}, 400),
    "a feature of another type": ({"examples": [{"x": "text"}]}, 400),
    "an unknown feature": ({"examples": [{"x": 1.0, "unknown": 3}]}, 200),
    "the default signature": ({"signature": ""}, 400),
    "classify on a signature that regresses": ({"signature": "regress"}, 400),
    "regress on a signature that classifies": ({"verb": "regress"}, 400),
    "an unknown signature": ({"signature": "none"}, 400),
    "an unknown model": ({"model": "none"}, 404),
    "a model without such signatures": ({"model": "m", "signature": ""}, 400),
    "an unknown version": ({"version": 50}, 404),
    "a label": ({"label": "stable"}, 400),
}


@pytest.mark.parametrize("what", EXAMPLES)
def test_v1_examines_examples_the_same_over_both_edges(edges: Port, what: str) -> None:
    changes, status = EXAMPLES[what]
    asked = Examples(**changes)
    assert_same(examine_by_rest(edges, asked), examine_by_grpc(edges, asked), status)


@pytest.mark.parametrize(
    ("model", "version", "status"), [("m", None, 200), ("m", 1, 200), ("m", 50, 404), ("none", None, 404)]
)
def test_v1_reports_the_same_status_over_both_edges(edges: Port, model: str, version: int | None, status: int) -> None:
    path = f"/v1/models/{model}" + (f"/versions/{version}" if version else "")
    rest = of_rest(
        edges.server.http.get(path), lambda each: [row["version"] for row in each.json()["model_version_status"]]
    )
    request = v1.GetModelStatusRequest(model_spec=spec_of(Predict(model=model, version=version)))

    def call() -> list[str]:
        response = edges.ask("GetModelStatus", request, v1.GetModelStatusResponse, STATUS)
        return [str(row.version) for row in response.model_version_status]

    assert_same(rest, of_grpc(call), status)


def test_there_are_many_odd_requests() -> None:
    assert len(V2) + len(PREDICT) + len(EXAMPLES) > 150
