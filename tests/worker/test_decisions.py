"""Where a mask is a close decision is read from the graph behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfserve import runtimes
from tfserve.models import formats
from tfserve.runtimes import decisions

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own

IMAGE = np.array([[[0.1, 0.5], [0.50001, 0.9]]], np.float32)  # one image of 2 x 2
CLOSE = [[[False, True], [True, False]]]


class Segmenter(tf.Module):
    """Compares x with 1 - x in several ways. The weight makes the graph one with a variable."""

    def __init__(self, mask: Callable[[Any], Any]) -> None:
        super().__init__()
        self.one = tf.Variable(1.0)
        self._mask = mask

    @tf.function(input_signature=[tf.TensorSpec([None, 2, 2], tf.float32, name="x")])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"mask": self._mask(tf.stack([x * self.one, 1 - x], axis=-1)), "scores": x}


def close_calls(mask: Callable[[Any], Any], folder: Path) -> dict[str, Any]:
    module = Segmenter(mask)
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    model = runtimes.load(formats.locate(str(folder)), device="/cpu:0")
    signature = model.signatures["serving_default"]
    names = [spec.name for spec in signature.outputs]
    computed: Any = model.run({"x": IMAGE}, names, "serving_default")
    outputs = dict(zip(names, computed, strict=True))
    found: Any = decisions.find(model, "serving_default", signature).close_calls({"x": IMAGE}, outputs)
    return {name: array.tolist() for name, array in found.items()}


@pytest.mark.parametrize(
    "mask",
    [
        lambda scores: tf.gather(tf.constant([0, 255], tf.uint8), tf.argmax(scores, axis=-1)),
        lambda scores: tf.cast(tf.argmin(tf.transpose(scores, [0, 3, 1, 2]), axis=1), tf.int32),
        lambda scores: tf.cast(scores[..., 0] > 0.5, tf.uint8),
    ],
    ids=["gathered values", "lowest", "threshold"],
)
def test_pixels_with_nearly_equal_scores_are_close_decisions(mask: Callable[[Any], Any], tmp_path: Path) -> None:
    assert close_calls(mask, tmp_path / "model") == {"mask": CLOSE}


@pytest.mark.parametrize(
    "mask",
    [lambda scores: tf.cast(scores[..., 0] * 255, tf.uint8), lambda scores: tf.argmax(scores, axis=-1) * 3 + 1],
    ids=["rounded", "computed on"],
)
def test_other_whole_numbers_are_none(mask: Callable[[Any], Any], tmp_path: Path) -> None:
    assert close_calls(mask, tmp_path / "model") == {}
