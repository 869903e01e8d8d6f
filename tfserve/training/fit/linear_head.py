"""A linear head on frozen features: multinomial logistic regression with an L2 penalty, solved by L-BFGS in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tfserve.tensors.specs import Array

PENALTIES = (1.0, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
"""Tried from the strongest to the weakest, each solved from the solution of the one before. They apply to features that
are standardised and divided by the square root of their number in a block, and to the mean loss of an image."""
LEAST_DEVIATION = 0.01
"""Features usually vary by 0.1 to 0.5. Less than this is what decoders and 8 bits make of the same image."""
MEMORY = 8
MAX_ITERATIONS = 60
TOLERANCE = 1e-4
SUFFICIENT_DECREASE = 1e-4

Objective = Callable[[Array], tuple[float, Array]]


@dataclass(frozen=True)
class HeadWeights:
    """Logits are `features @ kernel + bias`; the kernel is (width, classes)."""

    kernel: Array
    bias: Array

    def probabilities(self, features: Array) -> Array:
        """(images, classes) float32."""
        return softmax(features @ self.kernel + self.bias)

    def widened(self, width: int) -> HeadWeights:
        """The same for features with more columns, which it ignores."""
        return HeadWeights(np.pad(self.kernel, ((0, width - len(self.kernel)), (0, 0))), self.bias)


def heads(
    features: Array,
    labels: Array,
    classes: int,
    *,
    weights: Array,
    penalties: Sequence[float] = PENALTIES,
    prior: HeadWeights | None = None,
    known: HeadWeights | None = None,
    blocks: Sequence[int] | None = None,
) -> list[HeadWeights]:
    """One head for each penalty. `weights` (images) has the weight of each image.

    With a `prior`, such as the head of an earlier model, the penalty is on the difference from it. `known` is the head
    of the classes that the first features were trained for. With it, a mixture of those classes costs less: from few
    images, more is learnt of "like a finch or a jay" than of single features.

    `blocks` are the widths of parts of the features that count equally, however many columns they have.
    """
    width = features.shape[1]
    blocks = blocks or [width]
    prior = prior and prior.widened(width)
    if known is None:
        return _solved(features, labels, classes, weights, penalties, prior, blocks)
    known = known.widened(width)
    wider = np.concatenate([features, features @ known.kernel + known.bias], axis=1)
    prior = prior and prior.widened(wider.shape[1])
    return [
        HeadWeights(
            each.kernel[:width] + known.kernel @ each.kernel[width:], each.bias + known.bias @ each.kernel[width:]
        )
        for each in _solved(wider, labels, classes, weights, penalties, prior, [*blocks, wider.shape[1] - width])
    ]


def _solved(
    features: Array, labels: Array, classes: int, weights: Array, penalties: Sequence[float], prior: HeadWeights | None,
    blocks: Sequence[int],
) -> list[HeadWeights]:  # fmt: skip
    mean, scale = features.mean(axis=0), _scale(features.std(axis=0), blocks)
    rows = ((features - mean) / scale).astype(np.float32)
    rotation = _rotation(rows)
    reduced = rows if rotation is None else rows @ rotation
    given = np.float32(0.0) if prior is None else features @ prior.kernel + prior.bias
    solved, start = [], np.zeros((reduced.shape[1] + 1, classes), np.float32)
    for penalty in penalties:
        start = minimise(_objective(reduced, labels, classes, weights / weights.sum(), penalty, given), start)
        kernel = start[:-1] if rotation is None else rotation @ start[:-1]
        kernel = kernel / scale[:, np.newaxis]
        head = HeadWeights(kernel.astype(np.float32), (start[-1] - mean @ kernel).astype(np.float32))
        solved.append(head if prior is None else HeadWeights(head.kernel + prior.kernel, head.bias + prior.bias))
    return solved


def _scale(deviation: Array, blocks: Sequence[int]) -> Array:
    """By what each feature is divided. One that hardly varies does not become as large as the others of its block."""
    parts = np.split(deviation, np.cumsum(blocks)[:-1])
    return np.concatenate([
        np.maximum(part, max(LEAST_DEVIATION, 1e-3 * part.mean())) * np.sqrt(len(part)) for part in parts
    ])  # fmt: skip


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def minimise(objective: Objective, start: Array) -> Array:
    """The smallest value of a smooth convex function, by L-BFGS with backtracking."""
    at = start
    value, slope = objective(at)
    steps: list[tuple[Array, Array]] = []
    for _ in range(MAX_ITERATIONS):
        if np.abs(slope).max() < TOLERANCE * max(1e-3, value):
            break
        direction = _direction(slope, steps)
        moved = _line_search(objective, at, value, slope, direction)
        if moved is None:
            break
        following, value, next_slope = moved
        steps = [*steps[-MEMORY + 1 :], (following - at, next_slope - slope)]
        at, slope = following, next_slope
    return at


def _direction(slope: Array, steps: Sequence[tuple[Array, Array]]) -> Array:
    """The two-loop recursion: minus the slope, multiplied by an estimate of the inverse Hessian."""
    direction, shares = -slope, []
    for step, change in reversed(steps):
        share = np.vdot(step, direction) / np.vdot(step, change)
        direction = direction - share * change
        shares.append(share)
    if steps:
        step, change = steps[-1]
        direction = direction * (np.vdot(step, change) / np.vdot(change, change))
    for (step, change), share in zip(steps, reversed(shares), strict=True):
        direction = direction + (share - np.vdot(change, direction) / np.vdot(step, change)) * step
    return direction


def _line_search(
    objective: Objective, at: Array, value: float, slope: Array, direction: Array
) -> tuple[Array, float, Array] | None:
    """The first of 1, 1/2, 1/4 … of the step that decreases the value enough; None when rounding allows none."""
    downhill = float(np.vdot(slope, direction))
    length = 1.0
    while downhill < 0 and length > 1e-6:
        following = at + np.float32(length) * direction
        next_value, next_slope = objective(following)
        curved = np.vdot(following - at, next_slope - slope) > 0
        if next_value <= value + SUFFICIENT_DECREASE * length * downhill and curved:
            return following, next_value, next_slope
        length /= 2
    return None


def _objective(
    rows: Array, labels: Array, classes: int, shares: Array, penalty: float, known: Array | np.float32
) -> Objective:
    """The weighted mean of the cross-entropy and the penalty; the last row of the parameters is the bias, which is
    almost free. `known` is added to the logits."""
    truth = np.eye(classes, dtype=np.float32)[labels]
    column = shares[:, np.newaxis].astype(np.float32)
    strength = np.full((rows.shape[1] + 1, 1), penalty, np.float32)
    strength[-1] = 1e-4

    def objective(parameters: Array) -> tuple[float, Array]:
        logits = rows @ parameters[:-1] + parameters[-1] + known
        chances = softmax(logits)
        loss = -np.vdot(column * truth, np.log(np.maximum(chances, 1e-12)))
        error = (chances - truth) * column
        slope = np.concatenate([rows.T @ error, error.sum(axis=0, keepdims=True)]) + strength * parameters
        return float(loss + 0.5 * np.vdot(parameters, strength * parameters)), slope

    return objective


def _rotation(rows: Array) -> Array | None:
    """With fewer images than features, an orthonormal basis of what the images span: the solution lies in it."""
    count, width = rows.shape
    if count >= width:
        return None
    values, vectors = np.linalg.eigh(rows.astype(np.float64) @ rows.T.astype(np.float64))
    kept = values > values[-1] * 1e-7
    return np.asarray((rows.T @ vectors[:, kept]) / np.sqrt(values[kept]), np.float32)
