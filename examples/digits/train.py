"""Train a small network that reads handwritten digits, and leave a SavedModel behind.

An ordinary script: it runs as `python train.py`, and as a file job of a workspace. What it leaves for others are files
below its working directory, and four variables that `/get_variable/` reads: `model_path`, `version`, `accuracy` and
`held_out_path`.

The data are scikit-learn's 1,797 scanned digits of 8 x 8 pixels; 30 % of them are held out to measure the accuracy.
"""

import json
import math
import os
from pathlib import Path

# TensorFlow reads this while it is imported. A job's output is meant for people: leave the start-up chatter out.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS = 20
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
SPLIT_SEED = 0  # the same images are held out in every run, so that versions can be compared
CLASSES = 10


class PrintProgress(keras.callbacks.Callback):
    """One line for each epoch, flushed, so that whoever follows the output sees it at once."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        print(
            f"epoch {epoch + 1}/{self.params['epochs']}: loss {logs['loss']:.4f}, "
            f"accuracy {logs['accuracy']:.4f}, held-out accuracy {logs['val_accuracy']:.4f}",
            flush=True,
        )


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, held-out images, training labels, held-out labels. Images are float32 of (n, 8, 8) in 0..1."""
    digits = load_digits()
    images = (digits.images / 16).astype("float32")  # scanned with 17 levels of grey
    return train_test_split(images, digits.target, test_size=0.3, random_state=SPLIT_SEED, stratify=digits.target)


def build_model(steps: int) -> keras.Model:
    """A network that will be trained for `steps` batches.

    The names of the input and of the output become those of the SavedModel's signature.
    """
    images = keras.Input((8, 8), name="images")
    x = keras.layers.Reshape((8, 8, 1))(images)
    x = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.3)(x)
    probabilities = keras.layers.Dense(CLASSES, activation="softmax", name="probabilities")(x)
    model = keras.Model({"images": images}, {"probabilities": probabilities}, name="digits")
    # The rate falls to nothing, so that the last epochs agree and the accuracy doesn't depend on where one stops.
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, decay_steps=steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss={"probabilities": "sparse_categorical_crossentropy"},
        metrics={"probabilities": ["accuracy"]},
    )
    return model


def next_version(folder: Path) -> int:
    return 1 + max((int(each.name) for each in folder.glob("*") if each.name.isdecimal()), default=0)


def export(model: keras.Model, path: Path) -> None:
    """Write the SavedModel beside its place and move it there: nobody ever sees half a version."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    model.export(unfinished, format="tf_saved_model", verbose=False)
    unfinished.rename(path)


def train(version: int) -> tuple[keras.Model, float]:
    """A trained network and its held-out accuracy. Each version starts from other random weights."""
    keras.utils.set_random_seed(version)
    train_images, held_out_images, train_labels, held_out_labels = load_split()
    print(f"training on {len(train_images)} digits, {len(held_out_images)} are held out", flush=True)
    model = build_model(steps=EPOCHS * math.ceil(len(train_images) / BATCH_SIZE))
    history = model.fit(
        {"images": train_images},
        {"probabilities": train_labels},
        validation_data=({"images": held_out_images}, {"probabilities": held_out_labels}),
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[PrintProgress()],
    )
    return model, float(history.history["val_accuracy"][-1])


def write_held_out(path: Path) -> None:
    """The held-out images and their labels as JSON: for clients that have neither TensorFlow nor scikit-learn."""
    _, images, _, labels = load_split()
    path.write_text(json.dumps({"images": images.tolist(), "labels": labels.tolist()}))


models = Path.cwd() / "models" / "digits"
models.mkdir(parents=True, exist_ok=True)
version = next_version(models)

model, accuracy = train(version)
export(model, models / str(version))
model_path = str(models / str(version))

held_out_path = str(Path.cwd() / "held_out.json")
write_held_out(Path(held_out_path))

print(f"version {version}: held-out accuracy {accuracy:.4f}, saved in {model_path}", flush=True)
