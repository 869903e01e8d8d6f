"""FastAPI on uvicorn: the network is called in the web process. It has no batching of its own, so there is none.

The small network is called on the event loop: a thread costs more than the call. MobileNetV2 runs in FastAPI's thread
pool, so that one request is parsed while another one runs; TensorFlow lets go of the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from served import NAME, PORT
from signature import Network, from_bytes

app = FastAPI()
network = Network()


@app.post("/predict")
async def predict(request: Request) -> Response:
    body = await request.body()
    return Response(await call(of_json, body), media_type="application/json")


@app.post("/predict-raw")
async def predict_raw(request: Request) -> Response:
    body = await request.body()
    return Response(await call(of_raw, body), media_type="application/octet-stream")


def of_json(body: bytes) -> bytes:
    answer = network.of_rows(orjson.loads(body)["instances"])
    return orjson.dumps({"predictions": answer}, option=orjson.OPT_SERIALIZE_NUMPY)


def of_raw(body: bytes) -> bytes:
    answer: bytes = network.of_numbers(from_bytes(body)).tobytes()
    return answer


async def call(function: Any, body: bytes) -> bytes:
    if NAME == "small":
        return function(body)
    return await run_in_threadpool(function, body)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False)
