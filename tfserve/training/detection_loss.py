"""What a detector learns by: which cells are responsible for which box, and how wrong their predictions are.

The cells inside a box whose predictions fit it best are responsible for it (task-aligned assignment, TOOD). Scores
learn how well a cell's box fits (varifocal loss), boxes learn by 1 - GIoU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfserve.tensors import Array
from tfserve.training.detector import decoded

TOP_CELLS = 9
"""At most this many cells are responsible for a box."""
SCORE_POWER, IOU_POWER = 0.5, 4.0
"""How much score and overlap count when cells are chosen."""
NEGATIVE_WEIGHT = 0.75
BOX_WEIGHT = 2.0
PADDING = -1.0
"""The class number of the rows that fill up the list of an image's boxes."""
CROWD = -0.25
"""The class number of regions with many objects that are not marked one by one: nothing is learnt there."""


class Assigned(NamedTuple):
    """For each cell (count, cells): the box it is responsible for, and how strongly; 0 for the background."""

    boxes: Any
    scores: Any


class DetectionLoss:
    """Takes true boxes (count, n, 5), class number and left, top, right, bottom in pixels, and raw predictions."""

    def __init__(self, places: Array, classes: int) -> None:
        self.__name__ = "detection_loss"
        self._places = places
        self._classes = classes

    def __call__(self, truth: Any, predictions: Any) -> Any:
        logits, boxes = predictions[..., :-4], decoded(predictions[..., -4:], self._places)
        assigned = self.assign(truth, tf.sigmoid(logits), boxes)
        strength = tf.reduce_max(assigned.scores, axis=-1)
        total = tf.maximum(tf.reduce_sum(strength), 1.0)
        box_loss = tf.reduce_sum((1.0 - giou(boxes, assigned.boxes)) * strength) / total
        counted = 1.0 - tf.reduce_max(self._inside(truth, truth[..., :1] == CROWD), axis=1)
        return varifocal(assigned.scores, logits, counted) / total + BOX_WEIGHT * box_loss

    def assign(self, truth: Any, scores: Any, boxes: Any) -> Assigned:
        """`scores` of `Assigned` are (count, cells, classes), with the strength at the box's class."""
        scores, boxes = tf.stop_gradient(scores), tf.stop_gradient(boxes)
        labels = tf.cast(tf.maximum(truth[..., 0], 0.0), tf.int32)
        known = truth[..., 1:]
        overlap = iou(known[:, :, tf.newaxis], boxes[:, tf.newaxis])
        fitting = self._candidates(truth)
        overlap = tf.maximum(overlap, 1e-3) * fitting
        of_class = tf.gather(tf.transpose(scores, (0, 2, 1)), labels, axis=1, batch_dims=1)
        alignment = (of_class + 1e-9) ** SCORE_POWER * overlap**IOU_POWER * fitting
        least = tf.math.top_k(alignment, min(TOP_CELLS, len(self._places))).values[..., -1:]
        chosen = tf.cast((alignment >= least) & (alignment > 0.0), tf.float32)
        # A cell inside several boxes is responsible for the one that it overlaps most.
        owner = tf.argmax(overlap * chosen, axis=1, output_type=tf.int32)
        chosen *= tf.transpose(tf.one_hot(owner, tf.shape(truth)[1]), (0, 2, 1))
        alignment *= chosen
        best = tf.reduce_max(alignment, axis=-1, keepdims=True)
        best_overlap = tf.reduce_max(overlap * chosen, axis=-1, keepdims=True)
        strength = tf.reduce_max(alignment / (best + 1e-12) * best_overlap, axis=1)
        cell_labels = tf.gather(labels, owner, batch_dims=1)
        return Assigned(
            tf.gather(known, owner, batch_dims=1), tf.one_hot(cell_labels, self._classes) * strength[..., tf.newaxis]
        )

    def _candidates(self, truth: Any) -> Any:
        """(count, n, cells): 1 for the cells that may be responsible for a box."""
        return self._inside(truth, truth[..., :1] >= 0.0)

    def _inside(self, truth: Any, is_counted: Any) -> Any:
        """(count, n, cells): 1 where the centre of a cell is inside a box, or next to the centre of a small one."""
        x, y, stride = (self._places[:, axis] for axis in range(3))
        left, top, right, bottom = (truth[..., axis, tf.newaxis] for axis in range(1, 5))
        across = tf.maximum((right - left) / 2, stride / 2) - tf.abs(x - (left + right) / 2)
        down = tf.maximum((bottom - top) / 2, stride / 2) - tf.abs(y - (top + bottom) / 2)
        return tf.cast((tf.minimum(across, down) >= 0.0) & is_counted, tf.float32)


def varifocal(targets: Any, logits: Any, counted: Any) -> Any:
    """The sum over all cells. Cells without an object count the less the surer the network is of that.

    `counted` (count, cells) is 0 for cells whose score is unknown, unless an object is there.
    """
    chances = tf.stop_gradient(tf.sigmoid(logits))
    weights = tf.where(targets > 0.0, targets, NEGATIVE_WEIGHT * chances**2 * counted[..., tf.newaxis])
    return tf.reduce_sum(weights * tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits))


def iou(first: Any, second: Any) -> Any:
    """Overlap of boxes (…, 4) as the share of what they cover together."""
    both, either, _ = _areas(first, second)
    return both / (either + 1e-9)


def giou(first: Any, second: Any) -> Any:
    """IoU minus the share of the smallest box around both that neither covers: -1 to 1."""
    both, either, around = _areas(first, second)
    return both / (either + 1e-9) - (around - either) / (around + 1e-9)


def _areas(first: Any, second: Any) -> tuple[Any, Any, Any]:
    """Of the intersection, the union, and the smallest box around both."""
    inside = _area(tf.maximum(first[..., :2], second[..., :2]), tf.minimum(first[..., 2:], second[..., 2:]))
    around = _area(tf.minimum(first[..., :2], second[..., :2]), tf.maximum(first[..., 2:], second[..., 2:]))
    areas = _area(first[..., :2], first[..., 2:]) + _area(second[..., :2], second[..., 2:])
    return inside, areas - inside, around


def _area(low: Any, high: Any) -> Any:
    sides = tf.maximum(high - low, 0.0)
    return sides[..., 0] * sides[..., 1]
