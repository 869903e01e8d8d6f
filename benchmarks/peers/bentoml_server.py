"""BentoML: a service whose method is batched by its own adaptive batcher, at most 32 rows.

Numbers come as JSON, which the batcher joins row by row; raw float32 has a method of its own, since a body that is no
JSON can't be batched there.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import bentoml
from served import MAX_BATCH_SIZE, PORT

MAX_LATENCY_MS = 10_000  # what the batcher tries to keep; a tighter limit makes it answer 503 under load


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1000}, metrics={"enabled": False})
class Model:
    def __init__(self) -> None:
        from signature import Network  # in the worker only

        self.network = Network()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=MAX_LATENCY_MS, route="/predict")
    def predict(self, instances: list[Any]) -> list[Any]:
        answer: list[Any] = self.network.of_rows(instances).tolist()
        return answer


if __name__ == "__main__":
    bento = os.path.join(os.path.dirname(sys.executable), "bentoml")
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    options = ["--host", "127.0.0.1", "--port", str(PORT), "--api-workers", "1"]
    os.execv(bento, [bento, "serve", "bentoml_server:Model", *options])
