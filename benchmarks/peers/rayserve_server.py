"""Ray Serve: one proxy and one replica, batched by `serve.batch` without a delay, at most 32 rows.

Raw float32 is batched apart from JSON. The call runs in a thread, so that the replica goes on reading requests.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import numpy as np
import orjson
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from served import MAX_BATCH_SIZE, NAME, PORT
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class Model:
    def __init__(self) -> None:
        from signature import Network, from_bytes  # in the replica only

        self._network = Network()
        self._from_bytes = from_bytes

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        if request.url.path.endswith("-raw"):
            answer = await self._raw(self._from_bytes(body)[0])
            return Response(answer.tobytes(), media_type="application/octet-stream")
        answer = await self._rows(orjson.loads(body)["instances"][0])
        return Response(
            orjson.dumps({"predictions": [answer]}, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
        )

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0)
    async def _rows(self, rows: list[Any]) -> list[Any]:
        return await self._call(self._network.of_rows, rows)

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0)
    async def _raw(self, rows: list[Any]) -> list[Any]:
        return await self._call(lambda batch: self._network.of_numbers(np.stack(batch)), rows)

    async def _call(self, function: Any, rows: list[Any]) -> list[Any]:
        # The small network is called on the event loop: a thread costs more than the call.
        return list(function(rows) if NAME == "small" else await asyncio.to_thread(function, rows))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=200_000_000)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=PORT))
    serve.run(Model.bind(), route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
