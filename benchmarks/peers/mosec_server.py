"""Mosec: a Rust server that batches, at most 32 rows after 1 ms, and one Python process that calls the network.

Waiting for no batch at all is not possible: 1 ms is the shortest time. JSON is read by orjson, as in FastAPI's server.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import orjson
from mosec import Server, Worker
from served import MAX_BATCH_SIZE, PORT, SHAPE

MAX_WAIT_MS = 1
ROW_BYTES = 4 * int(np.prod(SHAPE))


class Predictions(Worker):  # type: ignore[misc]  # checked without the peers' packages
    """One route; a body that has the size of a row's float32 numbers is raw."""

    def __init__(self) -> None:
        super().__init__()
        from signature import Network  # in the worker only

        self._network = Network()

    def deserialize(self, data: bytes) -> Any:
        if len(data) == ROW_BYTES:
            return np.frombuffer(data, np.float32).reshape(SHAPE)
        return orjson.loads(data)["instances"][0]

    def forward(self, rows: list[Any]) -> list[Any]:
        """float32 arrays are called together, and so are rows of JSON: the response is of the same sort."""
        outputs: list[Any] = [None] * len(rows)
        for is_raw in (True, False):
            chosen = [n for n, row in enumerate(rows) if isinstance(row, np.ndarray) is is_raw]
            if chosen:
                batch = [rows[n] for n in chosen]
                found = self._network.of_numbers(np.stack(batch)) if is_raw else self._network.of_rows(batch)
                for n, output in zip(chosen, found, strict=True):
                    outputs[n] = output.tobytes() if is_raw else output
        return outputs

    def serialize(self, data: Any) -> bytes:
        if isinstance(data, bytes):
            return data
        return orjson.dumps({"predictions": [data]}, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    os.environ.update(MOSEC_ADDRESS="127.0.0.1", MOSEC_PORT=str(PORT), MOSEC_TIMEOUT="60000", MOSEC_LOG_LEVEL="warning")
    server = Server()
    server.append_worker(
        Predictions, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=MAX_WAIT_MS, timeout=60, route="/predict"
    )
    server.run()
