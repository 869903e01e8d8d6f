"""What every Python peer serves: one call of the SavedModel's signature. The servers import this, never the client.

Only in the process that calls: TensorFlow takes 400 MB and some seconds in each process that imports it.
"""

from __future__ import annotations

import base64
import gc
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from served import MODEL, SHAPE


class Network:
    """Calls `serving_default` on numbers and `image_bytes` on encoded images."""

    def __init__(self) -> None:
        self._loaded = tf.saved_model.load(MODEL)
        self._of_numbers = self._loaded.signatures["serving_default"]
        self._of_images = self._loaded.signatures.get("image_bytes")
        self.of_numbers(np.zeros((1, *SHAPE), np.float32))  # the first call of a signature is slow
        # A full collection looks at TensorFlow's 350,000 objects: 165 ms, each time that many floats were parsed.
        gc.collect()
        gc.freeze()

    def of_numbers(self, x: Any) -> Any:
        """float32 [n, ...] → float32 [n, classes]."""
        return self._of_numbers(x=tf.constant(x, tf.float32))["probabilities"].numpy()

    def of_images(self, images: list[bytes]) -> Any:
        """n encoded images → float32 [n, classes]."""
        return self._of_images(image_bytes=tf.constant(images))["probabilities"].numpy()

    def of_rows(self, rows: list[Any]) -> Any:
        """Rows as they stand in JSON: nested numbers, or `{"b64": …}`; all of one kind."""
        if isinstance(rows[0], dict):
            return self.of_images([base64.b64decode(row["b64"]) for row in rows])
        return self.of_numbers(np.array(rows, np.float32))


def from_bytes(body: bytes) -> Any:
    """The rows that stand in the body as little-endian float32."""
    return np.frombuffer(body, np.float32).reshape(-1, *SHAPE)
