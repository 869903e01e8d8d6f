"""The network for detection: EfficientNet-Lite0, a feature pyramid, and a head that needs no anchor boxes.

Each cell of the maps at strides 8, 16 and 32 predicts a score for each class and the distances from its centre to
the four sides of a box (FCOS). All activations are ReLU6, so it quantises well.

    detector     the trainable network: (count, height, width, 3) → (count, cells, classes + 4): logits, log distances
    detections   the same network with the boxes decoded and duplicates removed, in operations that every converter has
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfserve.tensors.specs import Array
from tfserve.training.fit import efficientnet_lite
from tfserve.training.fit.efficientnet_lite import STRIDES

LEVELS = (8, 16, 32)
CHANNELS = 64
FROZEN_BLOCKS = 5
"""The blocks up to stride 8 detect generic edges and colours, and training them takes most of the time of a step."""
BACKBONE_RATE = 0.2
"""Learning rate of the ImageNet weights relative to the rest: large steps would destroy what they have learnt."""
PRIOR = 0.01
"""The score of every cell before training: most cells have no object."""
TYPICAL_REACH = 2.0
"""Initial distance of a box's sides from the centre of its cell, in strides."""
MAX_LOG_DISTANCE = 4.0
MAX_CANDIDATES = 300
"""Boxes per image among which duplicates are looked for."""
MAX_DETECTIONS = 100
SAME_OBJECT_IOU = 0.6
"""Of two boxes of one class that overlap more than this, the one with the lower score is removed."""
MIN_SCORE = 0.05
"""Boxes with a lower score are not counted."""
NMS_STEPS = 6


def detector(size: tuple[int, int], classes: int, weights: Path | None) -> Any:
    """Raw predictions for training. Without `weights` everything is trained from scratch."""
    backbone = efficientnet_lite.network(size)
    if weights is not None:
        efficientnet_lite.load(backbone, weights)
        _freeze(backbone)
    pyramid = _pyramid([backbone.get_layer(STRIDES[stride]).output for stride in LEVELS])
    predictions = [_head(level, classes, f"head{stride}") for level, stride in zip(pyramid, LEVELS, strict=True)]
    outputs = keras.layers.Concatenate(axis=1, name="predictions")(predictions)
    return keras.Model(backbone.input, outputs, name="detector")


class Rates(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Consecutive schedules, each for its number of steps; the last one continues."""

    def __init__(self, schedules: Sequence[Any], steps: Sequence[int]) -> None:
        self._parts = list(zip(schedules, np.cumsum([0, *steps[:-1]]).tolist(), strict=True))
        self.last = self._parts[-1][1]
        """The first step of the last schedule."""

    def __call__(self, step: Any) -> Any:
        rate: Any = None
        for part, first in self._parts:
            own = part(keras.ops.maximum(step - first, 0))
            rate = own if rate is None else keras.ops.where(step >= first, own, rate)
        return rate


class Optimizer(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW with a learning rate of its own for the backbone, as a share of that of the pyramid and the head."""

    def __init__(self, rates: Rates, backbone_share: float) -> None:
        super().__init__(rates, weight_decay=1e-4, clipnorm=10.0)
        self._rates = rates
        self._backbone_share = backbone_share

    def begin_last(self) -> None:
        """Continues with the last schedule."""
        self.iterations.assign(self._rates.last)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        path = self._trainable_variables[self._get_variable_index(variable)].path
        is_backbone = any(name.startswith(("stem", "block")) for name in path.split("/"))
        share = self._backbone_share if is_backbone else 1.0
        super().update_step(gradient, variable, learning_rate * share)


def cells(size: tuple[int, int]) -> Array:
    """(cells, 3) float32: the centre (x, y) of each cell in pixels, and its stride; in the order of the predictions."""
    rows = []
    for stride in LEVELS:
        height, width = -(-size[0] // stride), -(-size[1] // stride)
        y, x = np.mgrid[0:height, 0:width]
        centres = np.stack([x.ravel(), y.ravel()], axis=1) * stride + stride / 2
        rows.append(np.concatenate([centres, np.full((len(centres), 1), stride)], axis=1))
    return np.concatenate(rows).astype(np.float32)


def decoded(distances: Any, cell_centres: Array) -> Any:
    """Boxes (count, cells, 4) in pixels: left, top, right, bottom; from log distances in strides."""
    ops = keras.ops
    reach = ops.exp(ops.minimum(distances, MAX_LOG_DISTANCE)) * cell_centres[:, 2:]
    low, high = ops.subtract(cell_centres[:, :2], reach[..., :2]), ops.add(cell_centres[:, :2], reach[..., 2:])
    return ops.concatenate([low, high], axis=-1)


def detections(network: Any) -> Any:
    """The trained network with decoded outputs, all for at most `MAX_DETECTIONS` boxes in the order of their scores.

    `boxes` (count, n, 4) float32: left, top, right and bottom as shares of the image's width and height.
    `scores` (count, n) float32, `labels` (count, n) int32: class numbers. `count` (count) int32: the number of boxes
    with a score of at least `MIN_SCORE`; what follows is filled up with zeros.
    """
    ops = keras.ops
    size = network.input_shape[1:3]
    cell_centres = cells(size)
    predictions = network.output
    chances = ops.sigmoid(predictions[..., :-4])
    boxes = decoded(predictions[..., -4:], cell_centres)
    sides = np.array([size[1], size[0], size[1], size[0]], np.float32)
    boxes = ops.clip(boxes / sides, 0.0, 1.0)
    # Not argmax, for which Keras looks at the bits of the numbers, as LiteRT can't.
    best, labels = ops.top_k(chances, 1)
    scores, order = ops.top_k(best[..., 0], min(MAX_CANDIDATES, len(cell_centres)))
    boxes, labels = _rows(boxes, order), _rows(ops.cast(labels, "float32"), order)[..., 0]
    scores = scores * _kept(boxes, labels) * ops.cast(scores >= MIN_SCORE, "float32")
    scores, order = ops.top_k(scores, min(MAX_DETECTIONS, len(cell_centres)))
    is_box = ops.cast(scores > 0.0, "float32")
    outputs = {
        "boxes": _rows(boxes, order) * is_box[..., None],
        "scores": scores,
        "labels": ops.cast(_rows(labels[..., None], order)[..., 0] * is_box, "int32"),
        "count": ops.cast(ops.sum(is_box, axis=-1), "int32"),
    }
    return keras.Model(network.input, outputs, name="detections")


def as_function(network: Any) -> Callable[[Any], Any]:
    """The network as one graph: run operation by operation, the decoding takes longer than the network itself."""
    images = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    compute: Callable[[Any], Any] = tf.function(
        lambda batch: network(batch, training=False), input_signature=[images], autograph=False
    )
    return compute


def _rows(values: Any, order: Any) -> Any:
    """For each image the rows of `values` (count, m, width) with these numbers (count, n).

    As a product with ones and zeros, which is exact: gathering along an axis is converted by few converters.
    """
    chosen = keras.ops.one_hot(keras.ops.cast(order, "int32"), values.shape[1])
    return keras.ops.matmul(chosen, values)


def _kept(boxes: Any, labels: Any) -> Any:
    """1 for each box (count, n), ordered by score, that no better box of its class covers; else 0.

    The same as greedy non-maximum suppression, by steps that work on all boxes at once: after k steps the decision
    about each box that k - 1 others depend on in a chain is final (Cluster-NMS).
    """
    ops = keras.ops
    count = boxes.shape[1]
    better = np.triu(np.ones((count, count), np.float32), 1)
    same_class = ops.cast(ops.abs(labels[:, :, None] - labels[:, None, :]) < 0.5, "float32")
    covers = ops.cast(_pairwise_iou(boxes) > SAME_OBJECT_IOU, "float32") * same_class * better
    kept = 1.0 - ops.max(covers, axis=1)
    for _ in range(NMS_STEPS):
        kept = 1.0 - ops.max(covers * kept[:, :, None], axis=1)
    return kept


def _pairwise_iou(boxes: Any) -> Any:
    """(count, n, n) of boxes (count, n, 4)."""
    ops = keras.ops
    first, second = boxes[:, :, None, :], boxes[:, None, :, :]
    lows = ops.maximum(first[..., :2], second[..., :2])
    highs = ops.minimum(first[..., 2:], second[..., 2:])
    overlap = ops.maximum(highs - lows, 0.0)
    both = overlap[..., 0] * overlap[..., 1]
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    # Not `a + b`: Keras takes a sum with a row for the bias of a layer, and gives it the wrong shape for one image.
    either = areas[:, :, None] - (both - areas[:, None, :])
    return both / ops.maximum(either, 1e-9)


def _freeze(backbone: Any) -> None:
    last = backbone.layers.index(backbone.get_layer(f"block{FROZEN_BLOCKS - 1}"))
    for layer in backbone.layers[: last + 1]:
        layer.trainable = False


def _pyramid(maps: Sequence[Any]) -> list[Any]:
    """Each map with what the coarser ones know, all with the same number of channels."""
    layers = keras.layers
    levels: list[Any] = []
    above = None
    for stride, features in reversed(list(zip(LEVELS, maps, strict=True))):
        level = _convolution(features, CHANNELS, 1, f"lateral{stride}")
        if above is not None:
            level = layers.Add(name=f"merged{stride}")([level, layers.UpSampling2D(name=f"up{stride}")(above)])
        above = _convolution(level, CHANNELS, 3, f"pyramid{stride}")
        levels.insert(0, above)
    return levels


def _head(level: Any, classes: int, name: str) -> Any:
    """(count, cells, classes + 4): logits, and log distances to left, top, right and bottom in strides."""
    layers = keras.layers
    x, y = level, level
    for number in range(2):
        x = _convolution(x, CHANNELS, 3, f"{name}_class{number}", layer=keras.layers.SeparableConv2D)
        y = _convolution(y, CHANNELS, 3, f"{name}_box{number}", layer=keras.layers.SeparableConv2D)
    odds = keras.initializers.Constant(-math.log((1 - PRIOR) / PRIOR))
    reach = keras.initializers.Constant(math.log(TYPICAL_REACH))
    logits = layers.Conv2D(classes, 1, bias_initializer=odds, name=f"{name}_logits")(x)
    distances = layers.Conv2D(4, 1, bias_initializer=reach, name=f"{name}_distances")(y)
    return layers.Concatenate(name=name)([
        layers.Reshape((-1, classes), name=f"{name}_logits_rows")(logits),
        layers.Reshape((-1, 4), name=f"{name}_distances_rows")(distances),
    ])  # fmt: skip


def _convolution(x: Any, filters: int, kernel: int, name: str, layer: Any = keras.layers.Conv2D) -> Any:
    x = layer(filters, kernel, padding="same", use_bias=False, name=name)(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)
