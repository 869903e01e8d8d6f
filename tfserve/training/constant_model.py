"""A trained network with its weights as constants, as a SavedModel that converters read.

They take several times as long to read the objects of Keras, and would do so again for each form.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow as tf

SIGNATURE = "serving_default"


class ConstantModel:
    """Written when a converter needs it, so that a full disk is a problem of the form; removed at the end of `with`.

    Its signature takes `images` (batch, height, width, 3) float32 and gives what `outputs` makes of them, by name.
    """

    def __init__(self, network: Any, outputs: Callable[[Any], dict[str, Any]], *, batch: int | None = None) -> None:
        self._images = tf.TensorSpec((batch, *network.input_shape[1:]), tf.float32, name="images")
        self._outputs = outputs
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> ConstantModel:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def converter(self) -> Any:
        """LiteRT's, for this model."""
        return tf.lite.TFLiteConverter.from_saved_model(str(self._saved))

    @cached_property
    def _saved(self) -> Path:
        names, frozen = _frozen(self._outputs, self._images)
        module = tf.Module()
        module.compute = tf.function(
            lambda images: dict(zip(names, frozen(images), strict=True)), input_signature=[self._images],
            autograph=False,
        )  # fmt: skip
        self._folder = self._folder or tempfile.TemporaryDirectory()
        signatures = {SIGNATURE: module.compute.get_concrete_function()}
        tf.saved_model.save(module, self._folder.name, signatures=signatures)
        return Path(self._folder.name)


def _frozen(outputs: Callable[[Any], dict[str, Any]], images: Any) -> tuple[list[str], Any]:
    """The names of the outputs, and a function without variables that gives these in the same order."""
    from tensorflow.python.framework import convert_to_constants

    function = tf.function(outputs, input_signature=[images], autograph=False).get_concrete_function()
    names = sorted(function.structured_outputs)  # as TensorFlow flattens a dict
    return names, convert_to_constants.convert_variables_to_constants_v2(function)
