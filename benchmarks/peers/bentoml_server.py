"""BentoML: a service whose method is batched by its own adaptive batcher, at most 32 rows.

Raw float32 has a method of its own, called in one of the service's threads: BentoML doesn't batch a body that is
no JSON.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from served import MAX_BATCH_SIZE, PORT

MAX_LATENCY_MS = 60_000  # past it the batcher refuses requests with 503
Octets = Annotated[bytes, ContentType("application/octet-stream")]


@bentoml.service(
    workers=1,
    threads=4,
    traffic={"timeout": 60, "max_concurrency": 1000},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Model:
    def __init__(self) -> None:
        from signature import Network, from_bytes  # in the worker only

        self.network = Network()
        self.from_bytes = from_bytes

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=MAX_LATENCY_MS, route="/predict")
    def predict(self, instances: list[Any]) -> list[Any]:
        answer: list[Any] = self.network.of_rows(instances).tolist()
        return answer

    @bentoml.api(route="/predict-raw")
    def predict_raw(self, x: Octets, /) -> Octets:
        answer: bytes = self.network.of_numbers(self.from_bytes(x)).tobytes()
        return answer


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)  # where it looks for the service
    options = ["--host", "127.0.0.1", "--port", str(PORT), "--api-workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", "bentoml_server:Model", *options])
