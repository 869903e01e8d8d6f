"""One request in the words of each protocol, right or wrong, and what became of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import httpx
import numpy as np

from tests.protocols.grpc_port import Port, tensor
from tfserve.ipc.predictions import split_strings
from tfserve.tensors.dtypes import DTYPES
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.protos import tensorflow_pb2 as tf
from tfserve.web.api.protos import tfserving_pb2 as v1

OF_V2 = {dtype.v2: dtype for dtype in DTYPES.values()}
CONTENTS = {
    "FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "INT32": "int_contents", "BYTES": "bytes_contents",
}  # fmt: skip
VALUES = {
    "FP32": "float_val", "FP64": "double_val", "INT64": "int64_val", "UINT8": "int_val", "INT32": "int_val",
    "BYTES": "string_val",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """`values` are row-major; `nested` is given where they are not simply put in rows of the shape's last size."""

    name: str = "x"
    datatype: str = "FP32"
    shape: Sequence[int] = (1, 3)
    values: Sequence[Any] = (1, 2, 3)
    nested: Any = None

    @property
    def rows(self) -> Any:
        size = self.shape[-1]
        return self.nested or [list(self.values[at : at + size]) for at in range(0, len(self.values), size)]


@dataclass(frozen=True)
class ComputeRequest:
    model: str = "one"
    signature: str = "FP32"
    inputs: Sequence[Tensor] = (Tensor(),)
    outputs: Sequence[str] = ()

    def of(self, **fields: Any) -> ComputeRequest:
        """With another only input."""
        return replace(self, inputs=[Tensor(**fields)])


@dataclass(frozen=True)
class Told:
    """`status` is HTTP's; that of a failed job is 400. `values` are those of the first output, row-major."""

    status: int
    text: str = ""
    values: list[Any] = field(default_factory=list)


def v1_rest(port: Port, ask: ComputeRequest) -> Told:
    body = {"signature_name": ask.signature, "inputs": {each.name: _as_b64(each.rows) for each in ask.inputs}}
    answer = port.server.http.post(f"/v1/models/{ask.model}:predict", json=body)
    return _refused(answer) or Told(200, answer.text, _flat(json.loads(answer.text)["outputs"]))


def v2_rest(port: Port, ask: ComputeRequest) -> Told:
    return _v2_rest(port, ask, [{**_head(each), "data": each.nested or list(each.values)} for each in ask.inputs], b"")


def v2_rest_bytes(port: Port, ask: ComputeRequest) -> Told:
    pieces = [_octets(each) for each in ask.inputs]
    heads = [
        {**_head(each), "parameters": {"binary_data_size": len(piece)}}
        for each, piece in zip(ask.inputs, pieces, strict=True)
    ]
    return _v2_rest(port, ask, heads, b"".join(pieces))


def _v2_rest(port: Port, ask: ComputeRequest, inputs: list[Any], tail: bytes) -> Told:
    body = {"inputs": inputs, "outputs": [{"name": name} for name in ask.outputs]}
    head = json.dumps({**body, "parameters": {"signature": ask.signature}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if tail else {}
    answer = port.server.http.post(f"/v2/models/{ask.model}/infer", content=head + tail, headers=headers)
    return _refused(answer) or Told(200, answer.text, strict(answer.text)["outputs"][0]["data"])


def v2_grpc(port: Port, ask: ComputeRequest) -> Told:
    request = v2.ModelInferRequest(model_name=ask.model, outputs=[{"name": name} for name in ask.outputs])
    request.parameters["signature"].string_param = ask.signature
    for each in ask.inputs:
        contents = {CONTENTS.get(each.datatype, "fp32_contents"): each.values}
        request.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape, contents=contents)

    def call() -> list[Any]:
        answer = port.call("ModelInfer", request)
        return _from_octets(answer.raw_output_contents[0], OF_V2[answer.outputs[0].datatype].numpy)

    return _by_grpc(call)


def v1_grpc(port: Port, ask: ComputeRequest) -> Told:
    spec = v1.ModelSpec(name=ask.model, signature_name=ask.signature)
    request = v1.PredictRequest(model_spec=spec, output_filter=ask.outputs)
    for each in ask.inputs:
        dtype = OF_V2[each.datatype].v1 if each.datatype in OF_V2 else "DT_INVALID"
        values = {VALUES.get(each.datatype, "float_val"): each.values}
        request.inputs[each.name].CopyFrom(tensor(tuple(each.shape), dtype, **values))

    def call() -> list[Any]:
        answer = port.ask("Predict", request, v1.PredictResponse)
        return _from_proto(next(iter(answer.outputs.values())))

    return _by_grpc(call)


def workspaces(port: Port, ask: ComputeRequest) -> Told:
    feed = {each.name: _as_b64(each.rows) for each in ask.inputs}
    body = {"name": ask.model, "fetches": list(ask.outputs) or ["x"], "feed_dict": feed, "signature": ask.signature}
    answer = port.server.http.post("/predict/", json={**body, "timeout": 60})
    assert answer.status_code == 200, answer.text
    job = strict(answer.text)["result"]
    if job["state"] != "succeeded":
        return Told(400, job["error"]["message"])
    return Told(200, answer.text, _flat(job["result"]))


PROTOCOLS: dict[str, Callable[[Port, ComputeRequest], Told]] = {
    "v1 REST": v1_rest, "v2 REST": v2_rest, "v2 REST bytes": v2_rest_bytes, "v2 gRPC": v2_grpc, "v1 gRPC": v1_grpc,
    "workspaces": workspaces,
}  # fmt: skip
"""Under their names: a request → what became of it."""


def strict(text: str) -> Any:
    """Raises ValueError for what is no JSON, though Python reads it."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _refused(answer: httpx.Response) -> Told | None:
    if answer.status_code == 200:
        return None
    content = strict(answer.text)
    assert list(content) == ["error"]
    return Told(answer.status_code, content["error"])


def _by_grpc(call: Callable[[], list[Any]]) -> Told:
    try:
        return Told(200, "", call())
    except grpc.RpcError as error:
        status = {grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.NOT_FOUND: 404}
        return Told(status.get(error.code(), 500), str(error.details()))


def _head(each: Tensor) -> dict[str, Any]:
    return {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)}


def _octets(each: Tensor) -> bytes:
    if each.datatype == "BYTES":
        return b"".join(len(value).to_bytes(4, "little") + value for value in each.values)
    dtype = OF_V2.get(each.datatype, OF_V2["FP32"]).numpy
    return np.array(each.values, dtype).tobytes()


def _from_octets(data: bytes, dtype: Any) -> list[Any]:
    return split_strings(data) if np.dtype(dtype).kind == "O" else np.frombuffer(data, dtype).tolist()


def _from_proto(proto: tf.TensorProto) -> list[Any]:
    name = next(name for name, dtype in DTYPES.items() if dtype.number == proto.dtype)
    if name == "string":
        return list(proto.string_val)
    return _from_octets(proto.tensor_content, DTYPES[name].numpy) or [
        value for field_ in VALUES.values() for value in getattr(proto, field_)
    ]


def _flat(value: Any) -> list[Any]:
    return [leaf for each in value for leaf in _flat(each)] if isinstance(value, list) else [value]


def _as_b64(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return [_as_b64(each) for each in value] if isinstance(value, list) else value
