"""Makes models that take image files and return masks or boxes, into the folder given on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

FILES = tf.TensorSpec([None], tf.string, name="image_bytes")
FLOATS = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")


def decoded(files: tf.Tensor) -> tf.Tensor:
    """The first of the files: (height, width), 0 to 255."""
    return tf.reduce_mean(tf.cast(tf.io.decode_image(files[0], channels=3, expand_animations=False), tf.float32), 2)


class Model(tf.Module):
    @tf.function(input_signature=[FLOATS])
    def floats(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mean": tf.reduce_mean(images, axis=[1, 2, 3])}


class Labels(Model):
    """Tells dark images from light ones."""

    @tf.function(input_signature=[FILES])
    def files(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        light = tf.sigmoid((tf.reduce_mean(decoded(image_bytes)) - 128) / 20)
        label = tf.where(light > 0.5, "light", "dark")
        return {"label": label[tf.newaxis], "probabilities": tf.stack([1 - light, light])[tf.newaxis]}


class Masks(Model):
    """1 where the image is bright."""

    @tf.function(input_signature=[FILES])
    def files(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mask": tf.cast(decoded(image_bytes) > 128, tf.uint8)[tf.newaxis]}


class Boxes(Model):
    """One box around what is bright."""

    @tf.function(input_signature=[FILES])
    def files(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        bright = tf.cast(tf.where(decoded(image_bytes) > 128), tf.float32)
        (top, left), (bottom, right) = tf.unstack(tf.reduce_min(bright, 0)), tf.unstack(tf.reduce_max(bright, 0) + 1)
        box = tf.stack([left, top, right, bottom])[tf.newaxis, tf.newaxis]
        return {
            "boxes": box, "scores": tf.constant([[0.9]]), "labels": tf.constant([["lamp"]]),
            "count": tf.constant([1]),
        }  # fmt: skip


def main(folder: Path) -> None:
    for name, model in (("labels", Labels()), ("masks", Masks()), ("boxes", Boxes())):
        signatures = {"serving_default": model.floats, "image_bytes": model.files}
        tf.saved_model.save(model, str(folder / name), signatures=signatures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
