"""What an engineer would try by hand on a folder of images: to be compared with what TFserve makes of the same images.

`python -m benchmarks.image_references METHOD FOLDER` learns from FOLDER/images/<class>/, answers for the images in
FOLDER/test/<class>/, which no method sees before, and prints its accuracy, time and memory as JSON. Methods:

    svm       histograms of oriented gradients and of colours, and a support vector machine
    keras     a compact network, early stopping on a fifth of the images, as in Keras' tutorials
    resnet    a small ResNet, all images, a fixed cosine schedule
    frozen    scikit-learn's logistic regression on the features of a frozen EfficientNet-Lite0
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEED = 1
WHITE = (255, 255, 255)
STEPS, MOST_EPOCHS = 1200, 100
"""Of the small ResNet: enough for its loss to stop falling on each of the sets."""


@dataclass(frozen=True)
class Images:
    """`learnt` and `unseen` are (count, side, side, 3) uint8 of RGB; their labels are class numbers."""

    learnt: Any
    labels: Any
    unseen: Any
    truth: Any

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    began_at = time.perf_counter()
    answers, truth = METHODS[chosen.method](chosen.folder)
    classes = np.unique(truth)
    print(json.dumps({
        "balanced_accuracy": float(np.mean([(answers[truth == each] == each).mean() for each in classes])),
        "accuracy": float((answers == truth).mean()),
        "total_s": time.perf_counter() - began_at,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))  # fmt: skip


# --- methods: from a folder to answers and truth


def svm(folder: Path) -> tuple[Any, Any]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    images = _read(folder, 64)
    model = make_pipeline(StandardScaler(), SVC(C=10.0, class_weight="balanced"))
    model.fit([_description(each) for each in images.learnt], images.labels)
    return model.predict([_description(each) for each in images.unseen]), images.truth


def keras(folder: Path) -> tuple[Any, Any]:
    import keras as library

    from tfserve.training.fit import backbones

    library.utils.set_random_seed(SEED)
    images = _read(folder, _side(folder, 64))
    order = np.random.default_rng(SEED).permutation(len(images.labels))
    held_out, learnt = order[: len(order) // 5], order[len(order) // 5 :]
    model = backbones.compact(images.learnt.shape[1:3], images.classes, grey=False)
    _compile(model, "adam")
    model.fit(
        images.learnt[learnt].astype(np.float32), images.labels[learnt], batch_size=16, epochs=60, verbose=0,
        validation_data=(images.learnt[held_out].astype(np.float32), images.labels[held_out]),
        callbacks=[library.callbacks.EarlyStopping(patience=10, restore_best_weights=True)],
    )  # fmt: skip
    return _answers(model, images), images.truth


def resnet(folder: Path) -> tuple[Any, Any]:
    import keras as library

    library.utils.set_random_seed(SEED)
    images = _read(folder, _side(folder, 64))
    model = _small_resnet(images.learnt.shape[1:], images.classes)
    batch_size = 16 if len(images.labels) < 700 else 32
    epochs = min(max(10, round(STEPS * batch_size / len(images.labels))), MOST_EPOCHS)
    schedule = library.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(images.labels) // batch_size))
    _compile(model, library.optimizers.AdamW(schedule, weight_decay=1e-3))
    model.fit(images.learnt.astype(np.float32), images.labels, batch_size=batch_size, epochs=epochs, verbose=0)
    return _answers(model, images), images.truth


def frozen(folder: Path) -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tfserve.training.fit import backbones, pretrained

    images = _read(folder, 224)
    network = backbones.features(pretrained.choose("efficientnet-lite0", "auto"), (224, 224))
    learnt, unseen = (
        network.predict(pixels.astype(np.float32), batch_size=32, verbose=0)
        for pixels in (images.learnt, images.unseen)
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
    model.fit(learnt, images.labels)
    return model.predict(unseen), images.truth


METHODS: dict[str, Callable[[Path], tuple[Any, Any]]] = {each.__name__: each for each in (svm, keras, resnet, frozen)}


# --- parts


def _read(folder: Path, side: int) -> Images:
    names = sorted(each.name for each in (folder / "images").iterdir())
    pixels: dict[str, list[Any]] = {"images": [], "test": []}
    labels: dict[str, list[int]] = {"images": [], "test": []}
    for part in pixels:
        for number, name in enumerate(names):
            for file in sorted((folder / part / name).iterdir()):
                pixels[part].append(_pixels(file, side))
                labels[part].append(number)
    learnt, unseen = (np.stack(each) for each in pixels.values())
    return Images(learnt, np.array(labels["images"]), unseen, np.array(labels["test"]))


def _pixels(file: Path, side: int) -> Any:
    with Image.open(file) as opened:
        image = opened.convert("RGBA")
    over = Image.new("RGBA", image.size, WHITE)
    return np.asarray(Image.alpha_composite(over, image).convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def _side(folder: Path, largest: int) -> int:
    """That of the first image, up to `largest`."""
    with Image.open(next(file for file in sorted((folder / "images").rglob("*")) if file.is_file())) as opened:
        return min(largest, max(opened.size) // 4 * 4)


def _description(image: Any) -> Any:
    """Shapes and colours of an image, as one row of numbers."""
    from skimage.feature import hog

    gradients = hog(image, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), channel_axis=-1)
    colours = [np.histogram(image[..., channel], bins=16, range=(0, 256), density=True)[0] for channel in range(3)]
    return np.concatenate([gradients, *colours])


def _small_resnet(shape: Any, classes: int) -> Any:
    import keras as library

    layers = library.layers
    inputs = library.Input(shape)
    x = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    x = layers.RandomTranslation(0.08, 0.08, fill_mode="nearest")(layers.RandomRotation(0.03, fill_mode="nearest")(x))
    x = layers.Conv2D(24, 3, padding="same", use_bias=False)(x)
    for filters, stride in ((24, 1), (48, 2), (96, 2), (192, 2)):
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        y = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        shortcut = x if stride == 1 else layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x)
        x = layers.Add()([y, shortcut])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
    return library.Model(inputs, layers.Dense(classes)(x))


def _compile(model: Any, optimizer: Any) -> None:
    import keras as library

    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])


def _answers(model: Any, images: Images) -> Any:
    return model.predict(images.unseen.astype(np.float32), verbose=0).argmax(axis=1)


if __name__ == "__main__":
    main()
