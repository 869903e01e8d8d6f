"""LitServe: web process and one worker process. Its batching without a delay takes what waits, up to 32 rows."""

from __future__ import annotations

from typing import Any

import litserve
from served import MAX_BATCH_SIZE, PORT


class Predictions(litserve.LitAPI):
    def setup(self, _device: str) -> None:
        from signature import Network  # in the worker only

        self.network = Network()

    def decode_request(self, request, **_):  # type: ignore[no-untyped-def]  # LitServe makes a schema of types
        return request["instances"][0]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs  # the rows of a batch are made one tensor where the network is called

    def predict(self, x: list[Any], **_: Any) -> Any:
        return self.network.of_rows(x)

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any, **_: Any) -> Any:
        return {"predictions": [output.tolist()]}


if __name__ == "__main__":
    api = Predictions(max_batch_size=MAX_BATCH_SIZE, batch_timeout=0.0)
    # The fast queue (ZeroMQ) is what LitServe advises for many requests a second.
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60, fast_queue=True)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False, num_api_servers=1)
