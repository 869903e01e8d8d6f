"""The gRPC port of a real server: plain stubs made of our own messages, and models to ask."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.acceptance.conftest import Server
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.protos import tensorflow_pb2 as tf
from tfserve.web.api.protos import tfserving_pb2 as v1

V2 = "inference.GRPCInferenceService"
V1 = "tensorflow.serving.PredictionService"
STATUS = "tensorflow.serving.ModelService"

#: Two rows of three of every type, with its extreme values.
VALUES: dict[str, Array] = {
    name: np.array([[True, False, True], [False, False, True]])
    if dtype.kind == "bool"
    else np.array([[b"a", b"", b"\x00\xff"], ["ä".encode(), b"b" * 300, b"c"]], dtype=object)
    if dtype.kind == "string"
    else np.array([[1, 2, np.iinfo(name).max], [np.iinfo(name).min, 0, 7]], dtype=name)
    if dtype.kind == "int"
    else np.array([[1.5, -2.0, np.inf], [np.nan, 0.0, -0.25]], dtype=dtype.numpy)
    for name, dtype in DTYPES.items()
}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Port:
    """A server with a gRPC port, and calls to it."""

    def __init__(self, folder: Path) -> None:
        self.number = free_port()
        self.access_log = folder / "access.log"
        self.server = Server(folder / "data", "--grpc-port", str(self.number), "--access-log", str(self.access_log))
        self.address = f"127.0.0.1:{self.number}"
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(self.address, options=options)

    def deploy(self, name: str, path: Path) -> None:
        if name not in self.server.call("/get_workspace/"):
            self.server.call("/create_workspace/", name=name)
        self.server.call("/deploy/", name=name, path=str(path), timeout=120)

    def unary(self, service: str, method: str, response: type[Any]) -> Any:
        return self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def call(self, method: str, request: Any, **options: Any) -> Any:
        """Asks v2."""
        return self.unary(V2, method, getattr(v2, f"{method}Response"))(request, timeout=60, **options)

    def ask(self, method: str, request: Any, response: type[Any], service: str = V1) -> Any:
        """Asks TensorFlow Serving's API."""
        return self.unary(service, method, response)(request, timeout=60)

    def close(self) -> None:
        self.channel.close()
        self.server.close()
        assert "Traceback" not in self.server.log, self.server.log


def raw(array: Array) -> bytes:
    if array.dtype == object:
        return b"".join(len(each).to_bytes(4, "little") + each for each in array.ravel())
    return array.tobytes()


def infer_request(model: str, arrays: Mapping[str, Array], **fields: Any) -> v2.ModelInferRequest:
    """A request in raw bytes."""
    request = v2.ModelInferRequest(model_name=model, **fields)
    for name, array in arrays.items():
        dtype = "string" if array.dtype == object else array.dtype.name
        request.inputs.add(name=name, datatype=DTYPES[dtype].v2, shape=array.shape)
        request.raw_input_contents.append(raw(array))
    return request


def predict_request(model: str, tensors: Mapping[str, tf.TensorProto], **fields: Any) -> v1.PredictRequest:
    return v1.PredictRequest(model_spec=v1.ModelSpec(name=model, **fields), inputs=tensors)


def tensor(shape: tuple[int, ...], dtype: str, **fields: Any) -> tf.TensorProto:
    """`dtype` is the word of TensorFlow's DataType."""
    proto = tf.TensorProto(dtype=dtype, **fields)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    """With two models that give back what they get: `all` takes every type, `x` floats of shape [-1, 4]."""
    folder = tmp_path_factory.mktemp("grpc")
    running = Port(folder)
    for model, inputs in {
        "all": {name: {"dtype": name, "shape": [-1, 3]} for name in DTYPES},
        "x": {"x": {"dtype": "float32", "shape": [-1, 4]}},
    }.items():
        path = folder / f"{model}.echo"
        path.write_text(json.dumps(inputs))
        running.deploy(model, path)
    yield running
    running.close()


@pytest.fixture(scope="module")
def real_model(port: Port) -> Port:
    """And with `real`, a model of TensorFlow: it classifies, regresses, doubles, and computes as long as it is told."""
    folder = port.server.roots / "real"
    program = Path(__file__).with_name("make_grpc_models.py")
    done = subprocess.run([sys.executable, program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    port.deploy("real", folder)
    return port
