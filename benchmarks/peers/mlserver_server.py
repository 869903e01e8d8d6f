"""MLServer with a runtime of its own that calls the signature, and its adaptive batching: 32 rows, 1 ms at most.

In one process (`parallel_workers` 0): TensorFlow lets go of the interpreter's lock, and a second process would only add
the copy of each tensor between the two.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from served import MAX_BATCH_SIZE, NAME, PORT, SHAPE
from signature import Network

MAX_BATCH_TIME_S = 0.001


class SignatureRuntime(MLModel):  # type: ignore[misc]  # checked without the peers' packages
    async def load(self) -> bool:
        self._network = Network()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        # The small network is called on the event loop: a thread costs more than the call.
        answer = self._call(payload) if NAME == "small" else await asyncio.to_thread(self._call, payload)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", answer)])

    def _call(self, payload: InferenceRequest) -> Any:
        tensor = payload.inputs[0]
        if tensor.name == "image_bytes":
            return self._network.of_images(Base64Codec.decode_input(tensor))
        return self._network.of_numbers(NumpyCodec.decode_input(tensor).reshape(-1, *SHAPE))


async def serve() -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=PORT,
        grpc_port=PORT + 1,
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
        load_models_at_startup=False,
    )
    model = ModelSettings(
        name="model",
        implementation=SignatureRuntime,
        max_batch_size=MAX_BATCH_SIZE,
        max_batch_time=MAX_BATCH_TIME_S,
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve())
