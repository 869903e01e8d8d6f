"""Makes the SavedModels that every participant serves, one input for each row, and TensorFlow's own answers to them.

`python -m benchmarks.models FOLDER`

    small/        dense 4→32→3; `serving_default`: x float32 [n, 4] → probabilities [n, 3]
    mobilenet/    MobileNetV2 without trained weights; `serving_default`: x float32 [n, 224, 224, 3] in [-1, 1] →
                  probabilities [n, 1000]; `image_bytes`: image_bytes string [n], encoded images → probabilities
    rows.npz      small, image, and jpeg (bytes): the inputs; `*_expected`: what the signatures answer
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

SEED = 7
SIDE = 224


def small() -> Any:
    return keras.Sequential([
        keras.layers.Input((4,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(3, activation="softmax"),
    ])  # fmt: skip


def mobilenet(photograph: Any) -> Any:
    """Random weights, made to give answers that differ: unscaled, every class would get 1/1000 for every image."""
    model = keras.applications.MobileNetV2(weights=None)
    pictures = np.concatenate([variants(photograph), noise(8)])
    take_statistics(model, pictures)
    head = model.layers[-1]
    features = keras.Model(model.input, head.input).predict(pictures, verbose=0)
    kernel, _ = head.get_weights()
    kernel *= 3 / (features @ kernel).std()
    head.set_weights([kernel, -features.mean(axis=0) @ kernel])
    return model


def take_statistics(model: Any, pictures: Any) -> None:
    """Gives the batch normalisations the statistics of these pictures, as training would have."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    usual = layers[0].momentum
    for layer in layers:
        layer.momentum = 0.0
    model(pictures, training=True)
    for layer in layers:
        layer.momentum = usual


def photograph_like(height: int = 240, width: int = 320) -> Any:
    """uint8 [height, width, 3]: smooth areas, edges and some grain, so that its JPEG has an ordinary size."""
    random = np.random.default_rng(SEED)
    coarse = tf.image.resize(random.uniform(0, 255, (6, 8, 3)), (height, width), "bicubic").numpy()
    fine = tf.image.resize(random.uniform(-60, 60, (60, 80, 3)), (height, width), "nearest").numpy()
    grain = random.normal(0, 4, (height, width, 3))
    return np.clip(coarse + fine + grain, 0, 255).astype(np.uint8)


def variants(photograph: Any) -> Any:
    picture = scaled(tf.cast(photograph, tf.float32)).numpy()
    return np.stack([picture, picture[::-1], picture[:, ::-1], -picture])


def noise(count: int) -> Any:
    coarse = np.random.default_rng(SEED + 1).uniform(-1, 1, (count, 14, 14, 3))
    return tf.image.resize(coarse, (SIDE, SIDE), "bicubic").numpy()


def scaled(picture: Any) -> Any:
    """What the network wants: 224×224, numbers from -1 to 1."""
    return tf.image.resize(picture, (SIDE, SIDE)) / 127.5 - 1.0


def decoded(image: Any) -> Any:
    # TensorFlow's default is less exact than every other decoder, by up to five levels: answers could not be compared.
    return scaled(tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE"))


def save(model: Any, shape: list[int], folder: Path, *, images: bool = False) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model)
    numbers = [tf.TensorSpec([None, *shape], tf.float32, name="x")]
    archive.add_endpoint("serving_default", lambda x: {"probabilities": model(x, training=False)}, numbers)
    if images:
        archive.add_endpoint("image_bytes", of_images(model), [tf.TensorSpec([None], tf.string, name="image_bytes")])
    archive.write_out(str(folder), verbose=False)


def of_images(model: Any) -> Any:
    def predict(image_bytes: Any) -> dict[str, Any]:
        pictures = tf.map_fn(decoded, image_bytes, fn_output_signature=tf.TensorSpec([SIDE, SIDE, 3], tf.float32))
        return {"probabilities": model(pictures, training=False)}

    return predict


def rows(folder: Path, photograph: Any) -> dict[str, Any]:
    """The inputs, and the answers of the saved signatures, as a peer would load them."""
    jpeg = tf.io.encode_jpeg(photograph, quality=90).numpy()
    inputs = {
        "small": np.array([[5.1, 3.5, 1.4, 0.2]], np.float32),
        "image": scaled(tf.cast(photograph, tf.float32)).numpy()[None],
    }
    serve = {name: tf.saved_model.load(str(folder / name)).signatures for name in ("small", "mobilenet")}
    answers = {
        "small": serve["small"]["serving_default"](x=tf.constant(inputs["small"])),
        "image": serve["mobilenet"]["serving_default"](x=tf.constant(inputs["image"])),
        "jpeg": serve["mobilenet"]["image_bytes"](image_bytes=tf.constant([jpeg])),
    }
    expected = {f"{name}_expected": answer["probabilities"].numpy() for name, answer in answers.items()}
    return {**inputs, "jpeg": np.frombuffer(jpeg, np.uint8), **expected}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.models", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(SEED)
    photograph = photograph_like()
    save(small(), [4], folder / "small")
    save(mobilenet(photograph), [SIDE, SIDE, 3], folder / "mobilenet", images=True)
    np.savez(folder / "rows.npz", **rows(folder, photograph))  # last: whoever finds it finds all


if __name__ == "__main__":
    main()
