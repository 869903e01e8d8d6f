"""Networks for segmentation on the maps of EfficientNet-Lite0 at strides 4, 8, 16 and 32.

    rows         the maps of an image as one row of numbers, so that they can be computed once and kept in a file
    decoder      from the maps to logits at stride 4: coarse maps are enlarged step by step and joined with finer ones
    linear       the same with a linear function of the enlarged maps
    segmenter    from images to probabilities in the network's size, the form in which a network is delivered

All activations are ReLU6 and maps are enlarged bilinearly, so that the network works in 8 bits and in every runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from tfserve.tensors import Array
from tfserve.training import efficientnet_lite
from tfserve.training.efficientnet_lite import STRIDES

FINEST = 4
TRAINED_STRIDE = 2
"""Decoders are trained with masks of half the network's size."""
MULTIPLE = 32
"""Heights and widths are multiples of it, so that every map has twice the size of the next."""
WIDTHS = {4: 32, 8: 64, 16: 64, 32: 64}
"""Channels of the decoder at each stride."""
SKIP = 24
"""Channels of the map at stride 4 in the decoder."""
LAST_FROZEN = 8
"""The blocks up to this stride stay as they are when the backbone is tuned: they see edges and colours everywhere."""

Shape = tuple[int, int, int]
"""Height, width and channels of a map."""

Body = Callable[[Sequence[Any]], Any]
"""From the maps, finest first, to logits at stride 4."""


def backbone(size: tuple[int, int], weights: Path) -> Any:
    """With its weights, not trainable."""
    network = efficientnet_lite.network(size)
    efficientnet_lite.load(network, weights)
    network.trainable = False
    return network


def maps(network: Any) -> list[Any]:
    """The backbone's outputs at each stride, finest first."""
    return [network.get_layer(name).output for name in STRIDES.values()]


def shapes(network: Any) -> list[Shape]:
    """(height, width, channels) of each map."""
    return [tuple(each.shape[1:]) for each in maps(network)]


def rows(network: Any) -> Any:
    """From images to one row for each: all maps, finest first."""
    flat = [keras.layers.Flatten()(each) for each in maps(network)]
    return keras.Model(network.input, keras.layers.Concatenate(name="rows")(flat), name="rows")


def from_rows(known: Sequence[Shape], body: Body) -> Any:
    """From rows to logits in half of the network's size, for training on rows that are kept.

    Losses in full size take twice the time of a step and make nothing better, since the logits are enlarged anyway.
    """
    inputs, levels = _of_row(known)
    return keras.Model(inputs, _enlarged(body(levels), FINEST // TRAINED_STRIDE, ""), name="from_rows")


def segmenter_of_rows(known: Sequence[Shape], bodies: Sequence[Body]) -> Any:
    """As `segmenter`, from rows instead of images."""
    return _with_probabilities(*_of_row(known), bodies)


def segmenter(network: Any, bodies: Sequence[Body]) -> Any:
    """From images to probabilities (count, height, width, classes) in the network's size, one output for each body."""
    return _with_probabilities(network.input, maps(network), bodies)


def _of_row(known: Sequence[Shape]) -> tuple[Any, list[Any]]:
    """An input of rows, and the maps in it."""
    inputs = keras.Input((sum(math.prod(shape) for shape in known),), name="rows")
    levels, begin = [], 0
    for shape in known:
        end = begin + math.prod(shape)
        levels.append(keras.layers.Reshape(shape)(inputs[:, begin:end]))
        begin = end
    return inputs, levels


def _with_probabilities(inputs: Any, levels: Sequence[Any], bodies: Sequence[Body]) -> Any:
    outputs = []
    for number, body in enumerate(bodies):
        name = "probabilities" if len(bodies) == 1 else f"probabilities{number}"
        outputs.append(keras.layers.Softmax(name=name)(_enlarged(body(levels), FINEST, "")))
    return keras.Model(inputs, outputs[0] if len(bodies) == 1 else outputs, name="segmenter")


def tunable(network: Any) -> Any:
    """The backbone from the map at stride 8 on, which becomes trainable: it gives the maps at strides 16 and 32.

    It shares its layers with `network`.
    """
    begin = network.get_layer(STRIDES[LAST_FROZEN])
    network.trainable = True
    for layer in network.layers[: network.layers.index(begin) + 1]:
        layer.trainable = False
    return keras.Model(begin.output, [network.get_layer(STRIDES[stride]).output for stride in (16, 32)], name="tuned")


def decoder(known: Sequence[Shape], classes: int) -> Any:
    """From maps of these shapes to logits at stride 4."""
    inputs = [keras.Input(shape, name=f"map{stride}") for stride, shape in zip(STRIDES, known, strict=True)]
    x = None
    for stride, level in reversed(list(zip(STRIDES, inputs, strict=True))):
        y = _convolution(level, SKIP if stride == FINEST else WIDTHS[stride], f"lateral{stride}")
        if x is not None:
            y = keras.layers.Concatenate(name=f"joined{stride}")([y, _enlarged(x, 2, f"enlarged{stride}")])
            y = _separable(y, WIDTHS[stride], f"decoded{stride}")
        x = y
    x = _separable(x, WIDTHS[FINEST], "last")
    x = keras.layers.Dropout(0.1)(x)
    return keras.Model(inputs, keras.layers.Conv2D(classes, 1, name="logits")(x), name="decoder")


def linear(known: Sequence[Shape], kernel: Array, bias: Array, *, name: str = "linear") -> Any:
    """Logits at stride 4 from a kernel (channels of all maps, classes) and a bias (classes)."""
    inputs = [keras.Input(shape, name=f"{name}_map{stride}") for stride, shape in zip(STRIDES, known, strict=True)]
    x, end = None, len(kernel)
    for stride, level in reversed(list(zip(STRIDES, inputs, strict=True))):
        begin = end - level.shape[-1]
        layer = keras.layers.Conv2D(len(bias), 1, use_bias=stride == FINEST, name=f"{name}{stride}")
        y = layer(level)
        part = kernel[begin:end].reshape(1, 1, end - begin, len(bias))
        layer.set_weights([part, bias] if stride == FINEST else [part])
        x = y if x is None else keras.layers.Add()([y, _enlarged(x, 2, f"{name}_enlarged{stride}")])
        end = begin
    return keras.Model(inputs, x, name=name)


def _enlarged(x: Any, factor: int, name: str) -> Any:
    return keras.layers.UpSampling2D(factor, interpolation="bilinear", name=name or None)(x)


def _convolution(x: Any, filters: int, name: str) -> Any:
    x = keras.layers.Conv2D(filters, 1, use_bias=False, name=name)(x)
    return _activated(x, name)


def _separable(x: Any, filters: int, name: str) -> Any:
    """Pointwise and depthwise 3x3, each followed by normalisation and ReLU6.

    In this order the slow part, depthwise, has the fewest channels.
    """
    x = _convolution(x, filters, name)
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    return _activated(x, f"{name}_depthwise")


def _activated(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)
