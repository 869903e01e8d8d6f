"""Triton, through PyTriton: the C++ server answers HTTP and batches; this process calls the network on what it gets.

Triton's own dynamic batching without a delay: what has arrived while the network ran goes together, up to 32 rows.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from served import MAX_BATCH_SIZE, NAME, PORT, SHAPE
from signature import Network

network = Network()
NUMBERS = Tensor(name="x", dtype=np.float32, shape=SHAPE, optional=NAME == "mobilenet")
IMAGES = Tensor(name="image_bytes", dtype=bytes, shape=(1,), optional=True)


@batch
def infer(**inputs: Any) -> dict[str, Any]:
    """A batch has the same inputs in all its rows: Triton doesn't mix requests that leave out different ones."""
    if "x" in inputs:
        return {"probabilities": network.of_numbers(inputs["x"])}
    return {"probabilities": network.of_images([base64.b64decode(text) for text in inputs["image_bytes"].ravel()])}


if __name__ == "__main__":
    # gRPC and metrics stay off: they take ports, and are not measured.
    config = TritonConfig(http_address="127.0.0.1", http_port=PORT, allow_grpc=False, allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=infer,
            inputs=[NUMBERS, IMAGES] if NAME == "mobilenet" else [NUMBERS],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                batching=True,
                max_batch_size=MAX_BATCH_SIZE,
                batcher=DynamicBatcher(max_queue_delay_microseconds=0),
            ),
            strict=False,
        )
        triton.serve()
