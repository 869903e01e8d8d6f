"""Classification networks: a compact one from scratch, and pretrained ones with ImageNet weights.

All take RGB images as float32 of 0 to 255; they include the scaling.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import keras

from tfserve.errors import Invalid
from tfserve.runtimes.error_summary import cause
from tfserve.training.dataset.project_folders import KERAS_FILE
from tfserve.training.fit import efficientnet_lite, weight_files
from tfserve.training.fit.linear_head import HeadWeights
from tfserve.training.fit.pretrained import KNOWN, BackboneChoice
from tfserve.training.fit.warm_start import WarmStart
from tfserve.training.recipes.parameters import LITE_NET

FIRST_FILTERS = 24
MAX_FILTERS = 192
SMALLEST_SIDE = 4
"""The compact network halves the image until a side would be smaller."""


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


def compact_macs(size: tuple[int, int]) -> float:
    """Multiplications and additions of the compact network for one image."""
    height, width = size
    filters, total = FIRST_FILTERS, 0.0
    total += height * width * 27 * filters
    while min(height, width) // 2 >= SMALLEST_SIDE:
        height, width, before = height // 2, width // 2, filters
        filters = min(filters * 2, MAX_FILTERS)
        total += height * width * 9 * (before + filters) * filters
    return total


def features(choice: BackboneChoice, size: tuple[int, int], warm: WarmStart | None = None) -> Any:
    """A known network without its top: its outputs are one row of features for each image. Raises `Invalid`.

    The weights are those of the earlier model if `choice` names its file.
    """
    is_earlier = warm is not None and choice.weights == warm.earlier.folder / KERAS_FILE
    network = (_lite_features if choice.name == LITE_NET else _keras_features)(choice, size, load=not is_earlier)
    if warm is not None and is_earlier:
        warm.fill(network)
        if warm.report["layers_copied"] < warm.report["layers"]:
            raise Invalid(f"{choice.weights} does not contain all weights of {choice.name}. Train without warmStart.")
    return network


def descriptions(choice: BackboneChoice, size: tuple[int, int], warm: WarmStart | None = None) -> tuple[Any, list[int]]:
    """As `features`, for EfficientNet-Lite0 also with those of an earlier layer, and the width of each part.

    Earlier layers know strokes and textures, which matter in images that are unlike photographs.
    """
    network = features(choice, size, warm)
    width = network.output_shape[1]
    if choice.name != LITE_NET:
        return network, [width]
    early = network.get_layer(efficientnet_lite.EARLY).output
    pooled = keras.layers.GlobalAveragePooling2D(name="early_pool")(early)
    scaled = keras.layers.Rescaling(efficientnet_lite.EARLY_SCALE, name="early_scaling")(pooled)
    joined = keras.layers.Concatenate(name="description")([network.output, scaled])
    return keras.Model(network.input, joined, name="descriptions"), [width, pooled.shape[1]]


def _keras_features(choice: BackboneChoice, size: tuple[int, int], *, load: bool) -> Any:
    known = KNOWN[choice.name]
    inputs = keras.Input((*size, 3), name="images")
    x = inputs if known.scaling is None else keras.layers.Rescaling(*known.scaling)(inputs)
    network = getattr(keras.applications, choice.name)(
        include_top=False, weights=None, pooling="avg", input_shape=(*size, 3)
    )
    try:
        if load:
            assert choice.weights is not None
            with weight_files.named_for_keras(choice.weights) as file:
                network.load_weights(file)
    except Exception as error:
        raise Invalid(
            f"{choice.weights} does not contain the weights of {choice.name} without its top: {cause(error)}"
        ) from error
    network.trainable = False
    return keras.Model(inputs, network(x, training=False), name="features")


def _lite_features(choice: BackboneChoice, size: tuple[int, int], *, load: bool) -> Any:
    assert choice.weights is not None
    network = efficientnet_lite.network(size)
    if load:
        efficientnet_lite.load(network, choice.weights)
    network.trainable = False
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(network.output)
    return keras.Model(network.input, pooled, name="features")


@cache
def known_head(choice: BackboneChoice) -> HeadWeights | None:
    """The head of the classes that the network was trained for; None where its weights come without it."""
    if choice.name != LITE_NET or choice.weights is None or choice.weights.name == KERAS_FILE:
        return None
    found = efficientnet_lite.classifier_weights(choice.weights)
    return None if found is None else HeadWeights(*found)


def head(width: int, classes: int) -> Any:
    """Classifies features. Its outputs are logits."""
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
