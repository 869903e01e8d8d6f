"""KServe's gRPC client: health, metadata, every type. Argument: address."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable

import kserve_modules
from v2_tensors import DATATYPES, example, same

kserve_modules.import_client()

from kserve.inference_client import InferenceGRPCClient  # noqa: E402
from kserve.protocol.infer_type import InferInput, InferRequest  # noqa: E402

#: KServe takes BF16 for no type of numpy's.
NAMES = {each: each for each in DATATYPES if each != "BF16"}


async def refusal(call: Awaitable[object]) -> str:
    try:
        await call
    except Exception as error:
        return str(error)
    raise AssertionError("an error was expected")


async def main(address: str) -> None:
    client = InferenceGRPCClient(address, verbose=False)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("types")
    passed = []
    for datatype in NAMES:
        array = example(datatype, 5)
        for binary in (True, False):
            if datatype == "FP16" and not binary:
                continue
            given = InferInput("x", list(array.shape), datatype)
            given.set_data_from_numpy(array, binary_data=binary)
            request = InferRequest("types", [given], parameters={"signature": datatype})
            answer = await client.infer(request)
            assert same(answer.outputs[0].as_numpy(), array), datatype
            passed.append(datatype)
    assert "NOT_FOUND" in await refusal(client.infer(InferRequest("nobody", [given])))
    await client.close()
    print(json.dumps(passed))


asyncio.run(main(sys.argv[1]))
