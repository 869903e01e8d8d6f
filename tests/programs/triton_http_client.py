"""Talks to a server with Triton's HTTP clients: `triton_http_client.py sync|aio|repository host:port model`.

Prints what it saw and what failed.

The model has an identity signature for each datatype, named like it. Its default signature takes FP32 `x` [-1, 3].
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException
from v2_tensors import DATATYPES, example, same

REFUSED_IN_JSON = ("FP16", "BF16")


class Client:
    """Both clients behind one face: every call can be awaited."""

    def __init__(self, kind: str, address: str) -> None:
        self.kind = kind
        self._client = (
            triton_aio.InferenceServerClient(address) if kind == "aio" else triton.InferenceServerClient(address)
        )

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return call


async def datatypes(client: Client, model: str, failures: list[str]) -> int:
    """Every datatype, in JSON and as bytes, plain and compressed. Returns how many came back as they went."""
    count = 0
    for datatype, binary, packing in itertools.product(DATATYPES, (False, True), (None, "gzip", "deflate")):
        case = f"{datatype} binary={binary} packing={packing}"
        array = example(datatype)
        try:
            tensor = triton.InferInput("x", list(array.shape), datatype)
            tensor.set_data_from_numpy(array, binary_data=binary)
            result = await client.infer(
                model, [tensor], outputs=[triton.InferRequestedOutput("x", binary_data=binary)], request_id=case,
                parameters={"signature": datatype}, request_compression_algorithm=packing,
                response_compression_algorithm=packing,
            )  # fmt: skip
            response = result.get_response()
            if same(result.as_numpy("x"), array) and response["id"] == case and response["model_version"] == "1":
                count += 1
            else:
                failures.append(f"{case}: {response}")
        except InferenceServerException as error:
            if datatype in REFUSED_IN_JSON and not binary and "binary" in str(error):
                count += 1
            else:
                failures.append(f"{case}: {error}")
    return count


async def looks(client: Client, model: str) -> dict[str, Any]:
    return {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model ready": await client.is_model_ready(model),
        "version ready": await client.is_model_ready(model, "1"),
        "unknown ready": await client.is_model_ready("unknown"),
        "server": await client.get_server_metadata(),
        "model": await client.get_model_metadata(model),
        "config": await client.get_model_config(model),
        "statistics": await client.get_inference_statistics(model),
        "all statistics": await client.get_inference_statistics(),
        "index": await client.get_model_repository_index(),
    }


async def refusals(client: Client, model: str) -> dict[str, tuple[str, str]]:
    """Status and message of what must be refused."""
    good = triton.InferInput("x", [1, 3], "FP32").set_data_from_numpy(np.zeros((1, 3), np.float32))
    wrong_type = triton.InferInput("x", [1, 3], "INT32").set_data_from_numpy(np.zeros((1, 3), np.int32))
    wrong_shape = triton.InferInput("x", [1, 2], "FP32").set_data_from_numpy(np.zeros((1, 2), np.float32))
    wrong_name = triton.InferInput("y", [1, 3], "FP32").set_data_from_numpy(np.zeros((1, 3), np.float32))
    twice = [triton.InferRequestedOutput("x")] * 2
    calls = {
        "unknown model": lambda: client.infer("unknown", [good]),
        "unknown version": lambda: client.infer(model, [good], model_version="99"),
        "wrong type": lambda: client.infer(model, [wrong_type]),
        "wrong shape": lambda: client.infer(model, [wrong_shape]),
        "wrong name": lambda: client.infer(model, [wrong_name]),
        "output twice": lambda: client.infer(model, [good], outputs=twice),
        "unknown output": lambda: client.infer(model, [good], outputs=[triton.InferRequestedOutput("z")]),
        "load unknown": lambda: client.load_model("unknown"),
        "load files": lambda: client.load_model(model, config="{}", files={"file:1/model.pb": b"x"}),
        "shared memory": lambda: client.register_system_shared_memory("a", "/a", 8),
        "log settings": lambda: client.get_log_settings(),
    }
    found: dict[str, tuple[str, str]] = {}
    for name, call in calls.items():
        try:
            await call()
            found[name] = ("200", "")
        except InferenceServerException as error:
            found[name] = (str(error.status()), str(error.message()))
    return found


async def predictions(client: Client, model: str) -> dict[str, Any]:
    scores = np.array([[0.25, 0.5, 0.125], [3, 1, 2]], np.float32)
    tensor = triton.InferInput("x", [2, 3], "FP32").set_data_from_numpy(scores)
    classes = await client.infer(model, [tensor], outputs=[triton.InferRequestedOutput("x", class_count=2)])
    none = triton.InferInput("x", [0, 3], "FP32").set_data_from_numpy(np.zeros((0, 3), np.float32))
    empty = await client.infer(model, [none])
    wishes = await client.infer(
        model, [tensor], model_version="1", sequence_id=7, sequence_start=True, priority=1, timeout=10_000_000
    )
    return {
        "classes": [[each.decode() for each in row] for row in classes.as_numpy("x").tolist()],
        "empty": list(empty.as_numpy("x").shape),
        "wishes": wishes.as_numpy("x").tolist(),
    }


async def repository(client: Client, model: str) -> dict[str, Any]:
    await client.load_model(model)
    reloaded = await client.get_model_metadata(model)
    await client.unload_model(model)
    gone = await client.is_model_ready(model)
    index = await client.get_model_repository_index()
    await client.load_model(model)
    return {
        "reloaded": reloaded["versions"][0],
        "ready after unload": gone,
        "index": next(each for each in index if each["name"] == model),
        "ready after load": await client.is_model_ready(model),
    }


async def main(kind: str, address: str, model: str) -> None:
    client = Client(kind, address)
    report = await (repository if kind == "repository" else everything_else)(client, model)
    await client.close()
    print(json.dumps(report))


async def everything_else(client: Client, model: str) -> dict[str, Any]:
    failures: list[str] = []
    count = await datatypes(client, model, failures)
    return {
        "failures": failures,
        "count": count,
        "looks": await looks(client, model),
        "refusals": await refusals(client, model),
        "predictions": await predictions(client, model),
    }


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
