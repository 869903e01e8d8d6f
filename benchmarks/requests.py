"""The rows of the comparison, and how each protocol writes a row's request and reads its answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfserve.web.api.protos import oip_pb2 as v2_pb2
from tfserve.web.api.protos import tensorflow_pb2, tfserving_pb2

ROWS = {
    "small-json": "small network, one row, JSON",
    "mobilenet-json": "MobileNetV2, JSON numbers",
    "mobilenet-raw": "MobileNetV2, raw float32",
    "mobilenet-jpeg": "MobileNetV2, base64 JPEG",
}
BINARY_HEADER = "Inference-Header-Content-Length"


@dataclass
class Request:
    """One request, and how its answer is read: headers in lower case, body → probabilities, row after row."""

    path: str
    body: bytes
    read: Callable[[dict[str, str], bytes], Any]
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


class Checked:
    """A request for the load client whose answer must be the one that is expected of it."""

    def __init__(self, request: Request, expected: Any) -> None:
        self.path, self.body, self.headers = request.path, request.body, request.headers
        self._read = request.read
        self._expected = expected.ravel()

    def read(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Raises ValueError with what was wrong."""
        if status != 200:
            raise ValueError(body[:300].decode(errors="replace"))
        compare(self._read(headers, body), self._expected)


class CheckedCall:
    """The same by gRPC, version 2."""

    method = "/inference.GRPCInferenceService/ModelInfer"

    def __init__(self, body: bytes, expected: Any) -> None:
        self.body = body
        self._expected = expected.ravel()

    def read(self, answer: bytes) -> None:
        """Raises ValueError with what was wrong."""
        compare(self._numbers(answer), self._expected)

    def _numbers(self, answer: bytes) -> Any:
        raw = v2_pb2.ModelInferResponse.FromString(answer).raw_output_contents
        return np.frombuffer(raw[0], np.float32)


class CheckedV1Call(CheckedCall):
    """The same by gRPC, version 1."""

    method = "/tensorflow.serving.PredictionService/Predict"

    def _numbers(self, answer: bytes) -> Any:
        output = tfserving_pb2.PredictResponse.FromString(answer).outputs["probabilities"]
        if output.tensor_content:
            return np.frombuffer(output.tensor_content, np.float32)
        return np.array(output.float_val, np.float32)


def compare(got: Any, expected: Any) -> None:
    """Raises ValueError with what was wrong."""
    if got.size != expected.size:
        raise ValueError(f"expected {expected.size} numbers, got {got.size}")
    if not np.allclose(got, expected, rtol=1e-3, atol=1e-6):
        raise ValueError(f"another answer: expected {expected[:12]}, got {got[:12]}")


class Samples:
    """The inputs that `benchmarks.models` made, and TensorFlow's answers."""

    def __init__(self, models: Path) -> None:
        with np.load(models / "rows.npz") as made:
            self._made = dict(made)

    def numbers(self, row: str) -> Any:
        return self._made["small" if row == "small-json" else "image"]

    @property
    def jpeg(self) -> str:
        return base64.b64encode(self._made["jpeg"].tobytes()).decode()

    def expected(self, row: str) -> Any:
        return self._made[{"small-json": "small", "mobilenet-jpeg": "jpeg"}.get(row, "image") + "_expected"][0]


def model_of(row: str) -> str:
    return row.partition("-")[0]


# --- "instances": TensorFlow Serving's JSON, which the plain web frameworks take over


def instances(path: str, row: str, samples: Samples, **fields: object) -> Request:
    rows = [{"b64": samples.jpeg}] if row == "mobilenet-jpeg" else samples.numbers(row).tolist()
    return of_instances(path, rows, **fields)


def v1_grpc(model: str, x: Any) -> bytes:
    """A serialized PredictRequest."""
    request = tfserving_pb2.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs["x"]
    tensor.dtype = tensorflow_pb2.DT_FLOAT
    tensor.tensor_content = x.tobytes()
    for size in x.shape:
        tensor.tensor_shape.dim.add(size=size)
    return bytes(request.SerializeToString())


def of_instances(path: str, rows: list[Any], **fields: object) -> Request:
    return Request(path, json.dumps({**fields, "instances": rows}).encode(), lambda _, body: predictions(body))


def predictions(body: bytes) -> Any:
    answer = json.loads(body)
    rows = answer["predictions"] if isinstance(answer, dict) else answer
    return np.array([row["probabilities"] if isinstance(row, dict) else row for row in rows], np.float32).ravel()


def raw(path: str, samples: Samples) -> Request:
    """Nothing but float32 in both directions."""
    body = samples.numbers("mobilenet-raw").tobytes()
    return Request(path, body, lambda _, answer: np.frombuffer(answer, np.float32), octets())


def octets() -> dict[str, str]:
    return {"Content-Type": "application/octet-stream"}


# --- the Open Inference Protocol


def v2(path: str, row: str, samples: Samples) -> Request:
    if row == "mobilenet-raw":
        return v2_binary(path, samples.numbers(row))
    if row == "mobilenet-jpeg":
        return v2_images(path, samples.jpeg)
    return v2_numbers(path, samples.numbers(row))


def v2_numbers(path: str, x: Any) -> Request:
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.ravel().tolist()}
    return Request(path, json.dumps({"inputs": [tensor]}).encode(), v2_output)


def v2_binary(path: str, x: Any) -> Request:
    """The binary tensor extension: a JSON head, then the tensors."""
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Request(path, head + x.tobytes(), v2_output, {**octets(), BINARY_HEADER: str(len(head))})


def v2_grpc(model: str, x: Any) -> bytes:
    """A serialized ModelInferRequest."""
    request = v2_pb2.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return bytes(request.SerializeToString())


def v2_images(path: str, jpeg: str) -> Request:
    """JSON has no bytes: the text is base64, which MLServer has a content type for."""
    about = {"content_type": "base64"}
    tensor = {"name": "image_bytes", "shape": [1, 1], "datatype": "BYTES", "data": [jpeg], "parameters": about}
    return Request(path, json.dumps({"inputs": [tensor]}).encode(), v2_output)


def v2_output(headers: dict[str, str], body: bytes) -> Any:
    length = int(headers.get(BINARY_HEADER.lower(), len(body)))
    output = json.loads(body[:length])["outputs"][0]
    if "data" in output:
        return np.array(output["data"], np.float32).ravel()
    return np.frombuffer(body[length:], np.float32)
