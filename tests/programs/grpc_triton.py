"""tritonclient over gRPC: every verb and every type. Arguments: address, a file of our messages."""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

ADDRESS, MESSAGES = sys.argv[1:]
TYPES = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "string",
)  # fmt: skip


def values(name: str) -> Any:
    if name == "string":
        return np.array([[b"a", b"", b"\x00\xff"], ["ä".encode(), b"b" * 300, b"c"]], dtype=object)
    if name == "bool":
        return np.array([[True, False, True], [False, False, True]])
    return np.array([[1, 2, 3], [4, 0, 7]], ml_dtypes.bfloat16 if name == "bfloat16" else name)


def inputs(module: Any) -> list[Any]:
    made = []
    for name in TYPES:
        array = values(name)
        datatype = "BF16" if name == "bfloat16" else np_to_triton_dtype(array.dtype)
        made.append(module.InferInput(name, list(array.shape), datatype))
        made[-1].set_data_from_numpy(array)
    return made


def check(result: Any) -> None:
    for name in TYPES:
        np.testing.assert_array_equal(result.as_numpy(name), values(name), name)


def small(rows: Any) -> Any:
    given = triton.InferInput("x", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    return [given]


def verbs(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("x")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata(as_json=True)["name"] == "tfserve"
    assert client.get_model_metadata("x", as_json=True)["inputs"][0]["datatype"] == "FP32"
    assert client.get_model_config("x", as_json=True)["config"]["input"][0]["data_type"] == "TYPE_FP32"
    assert {each.name for each in client.get_model_repository_index().models} >= {"all", "x"}
    assert client.get_inference_statistics("x").model_stats[0].name == "x"
    client.unload_model("x")
    assert not client.is_model_ready("x")
    client.load_model("x")
    assert client.is_model_ready("x")


def inference(client: triton.InferenceServerClient) -> None:
    for compression in (None, "gzip", "deflate"):
        check(client.infer("all", inputs(triton), compression_algorithm=compression))
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    best = client.infer("x", small(rows), outputs=[triton.InferRequestedOutput("x", class_count=1)])
    assert best.as_numpy("x").tolist() == [[b"3.000000:3"], [b"7.000000:3"]]
    waited: queue.Queue[Any] = queue.Queue()
    client.async_infer("x", small(rows), lambda result, error: waited.put((result, error)), priority=1, timeout=10**7)
    result, error = waited.get(timeout=60)
    assert error is None
    np.testing.assert_array_equal(result.as_numpy("x"), rows)


def stream(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for at in range(20):
        client.async_stream_infer(
            "nobody" if at == 7 else "x", small(np.full((1, 4), at, np.float32)), request_id=str(at),
            enable_empty_final_response=True,
        )  # fmt: skip
    for at in range(20):
        result, error = answers.get(timeout=60)
        if at == 7:
            assert isinstance(error, InferenceServerException)
            continue
        assert result.as_numpy("x")[0, 0] == at
        assert result.get_response().parameters["triton_final_response"].bool_param
    client.stop_stream()


def errors(client: triton.InferenceServerClient) -> None:
    rows = np.zeros((1, 4), np.float32)
    for code, call in {
        "NOT_FOUND": partial(client.infer, "nobody", small(rows)),
        "INVALID_ARGUMENT": partial(client.infer, "x", small(np.zeros((1, 5), np.float32))),
        "UNIMPLEMENTED": client.get_trace_settings,
        "DEADLINE_EXCEEDED": partial(until_late, partial(client.infer, "x", small(rows), client_timeout=1e-6)),
    }.items():
        error = refusal(call)
        assert code in str(error.status()), (code, error)
        assert error.message()


def until_late(call: Any) -> None:
    """A client rounds its deadline up to a millisecond, which some answers keep."""
    for _ in range(1000):
        call()


def refusal(call: Any) -> InferenceServerException:
    try:
        call()
    except InferenceServerException as error:
        return error
    raise AssertionError("an error was expected")


async def aio() -> None:
    async with triton_aio.InferenceServerClient(ADDRESS) as client:
        assert await client.is_server_ready()
        results = await asyncio.gather(*(client.infer("all", inputs(triton_aio)) for _ in range(4)))
        for result in results:
            check(result)


# Fields of the protocol that KServe's messages have and Triton's do not.
ONLY_KSERVE = {("ModelMetadataResponse", "properties")}


def compare() -> int:
    """Whether our messages are Triton's, as far as they go. Returns the number of fields that were compared."""
    ours = descriptor_pb2.FileDescriptorProto.FromString(Path(MESSAGES).read_bytes())
    theirs: dict[str, Any] = {}
    services: dict[str, Any] = {}
    for module in (service_pb2, model_config_pb2):
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        theirs |= {message.name: message for message in file.message_type}
        theirs |= {enum.name: enum for enum in file.enum_type}
        services |= {service.name: service for service in file.service}
    compared = sum(_same(message, theirs[message.name]) for message in ours.message_type)
    for enum in ours.enum_type:
        assert list(enum.value) == list(theirs[enum.name].value), enum.name
    (service,) = ours.service
    methods = {method.name: method for method in services[service.name].method}
    for method in service.method:
        same = methods[method.name]
        assert (method.input_type, method.output_type) == (same.input_type, same.output_type), method.name
        assert (method.client_streaming, method.server_streaming) == (same.client_streaming, same.server_streaming)
    return compared


def _same(ours: Any, theirs: Any) -> int:
    fields = {field.name: field for field in theirs.field}
    shared = [field for field in ours.field if (ours.name, field.name) not in ONLY_KSERVE]
    for field in shared:
        same = fields[field.name]
        assert (field.number, field.type, field.label, field.type_name) == (
            same.number, same.type, same.label, same.type_name,
        ), f"{ours.name}.{field.name}"  # fmt: skip
    inner = {message.name: message for message in theirs.nested_type}
    nested = [message for message in ours.nested_type if message.name in inner or ours.name != "ModelMetadataResponse"]
    return len(shared) + sum(_same(message, inner[message.name]) for message in nested)


compared = compare()
with triton.InferenceServerClient(ADDRESS) as client:
    verbs(client)
    inference(client)
    stream(client)
    errors(client)
asyncio.run(aio())
print(json.dumps({"fields": compared}))
