"""Talks to a server with KServe's REST client: `kserve_rest_client.py url model`. Prints what failed.

The model has an identity signature for each datatype, named like it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any

import httpx
from kserve_modules import import_client
from v2_tensors import DATATYPES, example, same

import_client()

from kserve.inference_client import InferenceRESTClient, RESTConfig  # noqa: E402
from kserve.protocol.infer_type import InferInput, InferRequest, RequestedOutput  # noqa: E402

UNKNOWN_TO_KSERVE = ("BF16",)


async def datatypes(client: InferenceRESTClient, url: str, model: str, failures: list[str]) -> int:
    count = 0
    for datatype, binary, packing in itertools.product(DATATYPES, (False, True), ("identity", "gzip")):
        if datatype in UNKNOWN_TO_KSERVE or (datatype == "FP16" and not binary):
            continue
        case = f"{datatype} binary={binary} packing={packing}"
        array = example(datatype)
        tensor = InferInput("x", list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        request = InferRequest(
            model, [tensor], request_id=case, parameters={"signature": datatype},
            request_outputs=[RequestedOutput("x", {"binary_data": binary})],
        )  # fmt: skip
        try:
            told: dict[str, str] = {}
            response = await client.infer(url, request, model, {"Accept-Encoding": packing}, response_headers=told)
            packed = told.get("content-encoding", "identity") == packing
            if same(response.outputs[0].as_numpy().reshape(array.shape), array) and response.id == case and packed:
                count += 1
            else:
                failures.append(f"{case}: {told} {response.outputs[0].as_numpy()!r}")
        except Exception as error:
            failures.append(f"{case}: {error!r}")
    return count


async def main(url: str, model: str) -> None:
    failures: list[str] = []
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        report: dict[str, Any] = {
            "count": await datatypes(client, url, model, failures),
            "failures": failures,
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model ready": await client.is_model_ready(url, model),
            "unknown ready": await client.is_model_ready(url, "unknown"),
        }
        try:
            await client.infer(url, {"inputs": []}, "unknown")
        except httpx.HTTPStatusError as error:
            report["unknown model"] = str(error)
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
