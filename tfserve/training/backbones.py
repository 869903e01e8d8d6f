"""Networks that tell classes of images: a compact one from scratch, and known ones with ImageNet's weights.

All take RGB images as float32 of 0 to 255: scaling is a part of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tfserve.errors import Invalid
from tfserve.training.parameters import EFFICIENT_NET, MOBILE_NET, SMALL_NET

FIRST_FILTERS = 24
MAX_FILTERS = 192
SMALLEST_SIDE = 4
"""The compact network halves the image until a side would be smaller."""


@dataclass(frozen=True)
class Known:
    """A network of keras.applications, and the file names under which Keras keeps its weights."""

    files: tuple[str, ...]
    sizes: tuple[int, ...]
    scaling: tuple[float, float] | None


KNOWN = {
    MOBILE_NET: Known(
        tuple(
            f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{size}_no_top.h5" for size in (224, 192, 160, 128, 96)
        ),
        (96, 128, 160, 192, 224),
        (1 / 127.5, -1.0),
    ),
    EFFICIENT_NET: Known(("efficientnetb0_notop.h5",), (96, 128, 160, 192, 224), None),
    SMALL_NET: Known(("weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",), (96, 128, 160, 192, 224), None),
}


@dataclass(frozen=True)
class Choice:
    """A backbone with the words that say why. `weights` is None for the compact one."""

    name: str
    why: str
    weights: Path | None = None


def choose(wanted: str, weights: str) -> Choice:
    """Which backbone the parameters mean on this machine. Raises `Invalid` when its weights are not here."""
    if wanted == "compact":
        return Choice("compact", "as asked")
    names = list(KNOWN) if wanted == "auto" else [wanted]
    if weights != "auto":
        return _given(names, Path(weights))
    for name in names:
        if (found := _kept_weights(name)) is not None:
            return Choice(name, f"its ImageNet weights are here: {found}", found)
    if wanted == "auto":
        return Choice("compact", f"no ImageNet weights in {_keras_folder()}, so it is trained from scratch")
    raise Invalid(
        f"backbone {wanted}: its ImageNet weights are not on this machine. Put {KNOWN[wanted].files[0]} into"
        f" {_keras_folder()} or give its path as `weights`, or choose the backbone 'compact'."
    )


def compact(size: tuple[int, int], classes: int, *, grey: bool) -> Any:
    """A network for training from scratch, the deeper the larger the images. Its outputs are logits."""
    layers = keras.layers
    inputs = keras.Input((*size, 3), name="images")
    x = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    if grey:
        x = keras.ops.mean(x, axis=-1, keepdims=True)
    x = _convolution(x, FIRST_FILTERS)
    filters = FIRST_FILTERS
    while min(x.shape[1:3]) // 2 >= SMALLEST_SIDE:
        filters = min(filters * 2, MAX_FILTERS)
        x = _convolution(layers.MaxPooling2D()(x), filters)
        x = _convolution(x, filters)
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name="compact")


def features(choice: Choice, size: tuple[int, int]) -> Any:
    """A known network without its top: its outputs are one row of features for each image. Raises `Invalid`."""
    known = KNOWN[choice.name]
    inputs = keras.Input((*size, 3), name="images")
    x = inputs if known.scaling is None else keras.layers.Rescaling(*known.scaling)(inputs)
    network = getattr(keras.applications, choice.name)(
        include_top=False, weights=None, pooling="avg", input_shape=(*size, 3)
    )
    try:
        network.load_weights(choice.weights)
    except Exception as error:
        told = str(error).splitlines()[0][:200]
        raise Invalid(f"{choice.weights} has no weights for {choice.name} without its top: {told}") from error
    network.trainable = False
    return keras.Model(inputs, network(x, training=False), name="features")


def head(width: int, classes: int) -> Any:
    """Tells classes from features. Its outputs are logits."""
    inputs = keras.Input((width,), name="features")
    x = keras.layers.Dropout(0.3)(inputs)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name="head")


def with_probabilities(*parts: Any) -> Any:
    """The parts one after the other, and at the end probabilities instead of logits."""
    inputs = keras.Input(parts[0].input_shape[1:], name="images")
    x = inputs
    for part in parts:
        x = part(x)
    return keras.Model(inputs, keras.layers.Softmax(name="probabilities")(x), name="classifier")


def _convolution(x: Any, filters: int) -> Any:
    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))


def _given(names: list[str], weights: Path) -> Choice:
    if not weights.is_file():
        raise Invalid(f"weights: {weights} does not exist.")
    named = [name for name in names if weights.name in KNOWN[name].files] or names
    return Choice(named[0], f"with the weights {weights}", weights)


def _kept_weights(name: str) -> Path | None:
    files = (_keras_folder() / file for file in KNOWN[name].files)
    return next((file for file in files if file.is_file()), None)


def _keras_folder() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
