"""Trains the compact network as an ordinary script does it: to be compared with what TFserve makes of the same images.

`python -m benchmarks.plain_keras FOLDER --size 64 --epochs 26` prints its accuracy and its times as JSON.
"""

from __future__ import annotations

import argparse
import json
import time

began_at = time.perf_counter()

import keras  # noqa: E402 (the import is a part of what is measured)

from tfserve.training.fit import backbones  # noqa: E402

SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="has a folder of images for each class")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--patience", type=int, default=10)
    chosen = parser.parse_args()

    keras.utils.set_random_seed(SEED)
    training, held_out = keras.utils.image_dataset_from_directory(
        chosen.folder, validation_split=0.3, subset="both", seed=SEED, image_size=(chosen.size, chosen.size),
        batch_size=chosen.batch_size, verbose=False,
    )  # fmt: skip
    model = _model(chosen.size, len(training.class_names))
    stop_early = keras.callbacks.EarlyStopping(patience=chosen.patience, restore_best_weights=True)

    fitted_from = time.perf_counter()
    history = model.fit(
        _augmented(training.cache().shuffle(1000)).prefetch(2), validation_data=held_out.cache().prefetch(2),
        epochs=chosen.epochs, callbacks=[stop_early], verbose=0,
    )  # fmt: skip
    fit_s = time.perf_counter() - fitted_from
    _, accuracy = model.evaluate(held_out, verbose=0)
    told = {"accuracy": accuracy, "epochs": len(history.history["loss"]), "fit_s": fit_s}
    print(json.dumps(told | {"total_s": time.perf_counter() - began_at}))


def _model(size: int, classes: int) -> keras.Model:
    model = backbones.compact((size, size), classes, grey=False)
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def _augmented(images):  # type: ignore[no-untyped-def]
    """The changes that TFserve makes by default, by Keras' own layers."""
    layers = keras.layers
    change = keras.Sequential([
        layers.RandomRotation(10 / 360, fill_mode="nearest"),
        layers.RandomTranslation(0.08, 0.08, fill_mode="nearest"),
        layers.RandomZoom(0.1, fill_mode="nearest"),
        layers.RandomBrightness(0.1),
    ])  # fmt: skip
    return images.map(lambda batch, labels: (change(batch, training=True), labels), num_parallel_calls=2)


if __name__ == "__main__":
    main()
