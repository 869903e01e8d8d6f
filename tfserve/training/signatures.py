"""The SavedModel of a training, with its two signatures: `serving_default` for floats, `image_bytes` for files.

    serving_default   images (count, height, width, 3) float32 of 0 to 255, of any size
                      → probabilities (count, classes)          for a classification
                      → mask (count, height, width) uint8       for a segmentation
                      → boxes (count, n, 4) as shares of width and height, scores, labels (numbers), count
                                                                for a detection
    probabilities     images as above → probabilities (count, height, width, classes) in the size of the images
                                                                for a segmentation only
    image_bytes       image_bytes (count) strings: JPEG, PNG, GIF, BMP or WebP, each of any size
                      → label (count) strings, probabilities    for a classification
                      → mask (count, height, width), size (count, 2)   for a segmentation
                      → boxes (count, n, 4) in pixels of each file, scores, labels (strings), count
                                                                for a detection

Masks have the values of the masks that were learnt from. Those of smaller images in a batch are filled up with 0 to
the right and below; `size` is the height and width of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfserve.colours import colour
from tfserve.runtimes import image_metadata
from tfserve.training import graph_images


class Classifier:
    """Says what to do with images of any size, with a network that takes one size."""

    def __init__(
        self, network: Any, labels: Sequence[str], display: Sequence[str] = (), *, background: str = "white"
    ) -> None:
        self._network = network
        self._background = background
        self._size = network.input_shape[1:3]
        self._labels = list(labels)
        self._display = list(display)

    def image(self) -> dict[str, Any]:
        """How files become the input of `serving_default`, in the words of `tfserve.runtimes.image_spec`."""
        height, width = self._size
        names = {"labels": self._labels, "display": self._display, "background": self._background}
        return {"task": "classification", "height": height, "width": width} | names

    def from_floats(self, images: Any) -> dict[str, Any]:
        return {"probabilities": self._network(_multiplied(images, self._size), training=False)}

    def from_bytes(self, image_bytes: Any) -> dict[str, Any]:
        def read(data: Any) -> Any:
            return _resized(graph_images.decoded(data, colour(self._background), self._size), self._size)

        images = tf.map_fn(read, _some(image_bytes), fn_output_signature=tf.TensorSpec((*self._size, 3), tf.float32))
        probabilities = self._network(images, training=False)
        return {
            "label": tf.gather(tf.constant(self._labels), tf.argmax(probabilities, axis=-1)),
            "probabilities": probabilities,
        }


class Segmenter:
    """Gives masks in the size of the images."""

    def __init__(
        self,
        network: Any,
        labels: Sequence[str],
        values: Sequence[int],
        display: Sequence[str] = (),
        *,
        background: str = "white",
    ) -> None:
        self._network = network
        self._background = background
        self._labels = list(labels)
        self._display = list(display)
        self._size = network.input_shape[1:3]
        self._values = np.asarray(values, np.uint8)

    def image(self) -> dict[str, Any]:
        """Files keep their size, since masks of theirs are wanted; the model itself resizes."""
        names = {"labels": self._labels, "display": self._display, "background": self._background}
        return {"task": "segmentation"} | names

    def from_floats(self, images: Any) -> dict[str, Any]:
        chances = self._network(_multiplied(images, self._size), training=False)
        return {"mask": self._mask(chances, tf.shape(images)[1:3])}

    def probabilities(self, images: Any) -> dict[str, Any]:
        """What the masks of `from_floats` are made from."""
        chances = self._network(_multiplied(images, self._size), training=False)
        return {"probabilities": tf.image.resize(chances, tf.shape(images)[1:3])}

    def from_bytes(self, image_bytes: Any) -> dict[str, Any]:
        image_bytes = _some(image_bytes)
        sizes = tf.map_fn(
            lambda data: tf.shape(self._decoded(data))[:2],
            image_bytes,
            fn_output_signature=tf.TensorSpec((2,), tf.int32),
        )
        largest = tf.reduce_max(sizes, axis=0)

        def read(data: Any) -> Any:
            image = self._decoded(data)
            height, width = tf.unstack(tf.shape(image)[:2])
            mask = self._mask(self._network(_resized(image, self._size)[tf.newaxis], training=False), (height, width))[
                0
            ]
            return tf.pad(mask, ((0, largest[0] - height), (0, largest[1] - width)))

        masks = tf.map_fn(read, image_bytes, fn_output_signature=tf.TensorSpec((None, None), tf.uint8))
        return {"mask": masks, "size": sizes}

    def _decoded(self, data: Any) -> Any:
        return graph_images.decoded(data, colour(self._background))

    def _mask(self, chances: Any, size: Any) -> Any:
        full = tf.image.resize(chances, size)
        return tf.gather(tf.constant(self._values), tf.argmax(full, axis=-1))


class Detector:
    """Gives boxes: as shares of width and height for arrays, in pixels for files."""

    def __init__(self, network: Any, labels: Sequence[str], image: dict[str, Any]) -> None:
        self._network = network
        self._size = network.input_shape[1:3]
        self._labels = list(labels)
        self._image = image

    def image(self) -> dict[str, Any]:
        return self._image

    def from_floats(self, images: Any) -> dict[str, Any]:
        return dict(self._network(_multiplied(images, self._size), training=False))

    def from_bytes(self, image_bytes: Any) -> dict[str, Any]:
        background = colour(self._image["background"])

        def read(data: Any) -> tuple[Any, Any]:
            image = graph_images.decoded(data, background)
            return _resized(image, self._size), tf.gather(tf.cast(tf.shape(image), tf.float32), [1, 0, 1, 0])

        specs = tf.TensorSpec((*self._size, 3), tf.float32), tf.TensorSpec((4,), tf.float32)
        images, sides = tf.map_fn(read, _some(image_bytes), fn_output_signature=specs)
        found = self._network(images, training=False)
        names = tf.gather(tf.constant(self._labels), found["labels"])
        is_box = tf.range(tf.shape(names)[1])[tf.newaxis] < found["count"][:, tf.newaxis]
        return {
            "boxes": found["boxes"] * sides[:, tf.newaxis], "scores": found["scores"],
            "labels": tf.where(is_box, names, ""), "count": found["count"],
        }  # fmt: skip


def save(network: Any, server: Classifier | Segmenter | Detector, folder: Path) -> None:
    """Writes the SavedModel. Keras' own archive would trace everything twice, which takes seconds."""
    floats = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
    files = tf.TensorSpec((None,), tf.string, name="image_bytes")
    functions = {"serving_default": (server.from_floats, floats), "image_bytes": (server.from_bytes, files)}
    if isinstance(server, Segmenter):
        functions["probabilities"] = (server.probabilities, floats)
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    signatures = {
        name: tf.function(compute, input_signature=[spec], autograph=False).get_concrete_function()
        for name, (compute, spec) in functions.items()
    }
    tf.saved_model.save(module, folder, signatures=signatures)
    describe(server.image(), folder)


def describe(image: dict[str, Any], folder: Path) -> None:
    """Writes beside a SavedModel how files become its input (`tfserve.runtimes.image_metadata`)."""
    beside = folder / image_metadata.BESIDE
    beside.parent.mkdir(exist_ok=True)
    beside.write_text(json.dumps(image, ensure_ascii=False, indent=2))


def _some(image_bytes: Any) -> Any:
    """The batch, unless it is empty, of which TensorFlow would say that shapes of a layer deep inside don't fit."""
    told = "image_bytes: one encoded image or more was expected, an empty batch was given"
    with tf.control_dependencies([tf.debugging.assert_positive(tf.size(image_bytes), message=told)]):
        return tf.identity(image_bytes)


def _resized(images: Any, size: tuple[int, int]) -> Any:
    """As Pillow resizes the images that are learnt from: bilinear, smoothed when made smaller."""
    return tf.image.resize(images, size, antialias=True)


def _multiplied(images: Any, size: tuple[int, int]) -> Any:
    """As `_resized`, (count, height, width, 3), by operations that every converter knows: two products of matrices.

    Images that have the size already are not changed at all. The kernel of `_resized` is known to TensorFlow only, so
    with it no other runtime could compute the model.
    """
    count, height, width = tf.unstack(tf.shape(images)[:3])
    rows = tf.matmul(_weights(height, size[0]), tf.reshape(images, [count, height, width * 3]))
    turned = tf.transpose(tf.reshape(rows, [count, size[0], width, 3]), [0, 2, 1, 3])
    columns = tf.matmul(_weights(width, size[1]), tf.reshape(turned, [count, width, size[0] * 3]))
    return tf.transpose(tf.reshape(columns, [count, size[1], size[0], 3]), [0, 2, 1, 3])


def _weights(old: Any, new: int) -> Any:
    """(new, old) shares of the old pixels in each new one: a triangle, as wide as a new pixel or an old one."""
    step = tf.cast(old, tf.float32) / new
    centres = (tf.range(new, dtype=tf.float32) + 0.5) * step
    places = tf.cast(tf.range(old), tf.float32) + 0.5
    distances = tf.abs(places[tf.newaxis] - centres[:, tf.newaxis]) / tf.maximum(step, 1.0)
    weights = tf.maximum(1.0 - distances, 0.0)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
