"""KServe's Python server: FastAPI with the protocols v1 and v2, and a model that calls the signature. No batching.

The small network is called on the event loop: a thread costs more than the call. MobileNetV2 runs in threads.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from served import NAME, PORT, SHAPE
from signature import Network


class SignatureModel(Model):  # type: ignore[misc]  # checked without the peers' packages
    def __init__(self) -> None:
        super().__init__("model")
        self._network = Network()
        self.ready = True

    async def predict(self, payload: Any, _headers: Any = None, _response_headers: Any = None) -> Any:
        call = self._v2 if isinstance(payload, InferRequest) else self._v1
        return call(payload) if NAME == "small" else await asyncio.to_thread(call, payload)

    def _v1(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"predictions": self._network.of_rows(payload["instances"]).tolist()}

    def _v2(self, request: Any) -> Any:
        probabilities = self._network.of_numbers(request.inputs[0].as_numpy().reshape(-1, *SHAPE))
        output = InferOutput("probabilities", list(probabilities.shape), "FP32")
        output.set_data_from_numpy(probabilities, binary_data=True)
        return InferResponse(request.id or "1", "model", [output])


if __name__ == "__main__":
    ModelServer(http_port=PORT, enable_grpc=False, enable_latency_logging=False, access_log_format=None).start(
        [SignatureModel()]
    )
