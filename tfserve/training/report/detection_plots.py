"""Plots of a detection: precision and recall over the score, boxes over held-out images, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.report import plots
from tfserve.training.report.detection_metrics import Predicted, Truth
from tfserve.training.report.detection_mistakes import mistakes

MAX_SHOWN, MAX_MISTAKES = 12, 24
SHOWN_SIDE = 256

Pixels = Callable[[int], Array]
"""From the number of a held-out image to all of its pixels, (height, width, 3) uint8."""


def score_curve(file: Path, curve: Sequence[Mapping[str, float]], best: float) -> None:
    figure = plots.new_figure(6, 4)
    axes = figure.add_subplot()
    scores = [point["score"] for point in curve]
    for name in ("precision", "recall", "f1"):
        axes.plot(scores, [point[name] for point in curve], label="F1" if name == "f1" else name)
    axes.axvline(best, color="grey", linestyle=":", label=f"best F1: score {best:.2f}")
    axes.set(xlabel="minimum score of the boxes that are kept", ylim=(0, 1.02), title="held-out images, IoU 0.5")
    axes.grid(alpha=0.3)
    axes.legend()
    plots.save(figure, file)


def boxes(
    file: Path, pixels: Pixels, truths: Sequence[Truth], predictions: Sequence[Predicted],
    labels: Sequence[str], score: float,
) -> None:  # fmt: skip
    """Held-out images with the true boxes (white, dashed) and the predicted ones (coloured)."""
    shown = np.linspace(0, len(truths) - 1, min(MAX_SHOWN, len(truths))).astype(int)
    columns = min(4, len(shown))
    figure = plots.new_figure(3 * columns, 3 * -(-len(shown) // columns))
    for number, index in enumerate(shown, start=1):
        axes = figure.add_subplot(-(-len(shown) // columns), columns, number)
        _show(axes, pixels(int(index)))
        for box in truths[index].boxes:
            _draw(axes, box, "white", "", style="--")
        predicted = predictions[index]
        for box, value, label in zip(predicted.boxes, predicted.scores, predicted.labels, strict=True):
            if value >= score:
                _draw(axes, box, f"C{label % 10}", f"{labels[label]} {value:.2f}")
    plots.save(figure, file)


def worst_mistakes(
    file: Path, pixels: Pixels, truths: Sequence[Truth], predictions: Sequence[Predicted],
    labels: Sequence[str], score: float,
) -> None:  # fmt: skip
    """The surest wrong boxes, and the largest objects that were not found."""
    found = mistakes(truths, predictions, labels, score)[:MAX_MISTAKES]
    if not found:
        plots.worst_mistakes(file, [], [])
        return
    columns = min(6, len(found))
    figure = plots.new_figure(2.2 * columns, 2.5 * -(-len(found) // columns))
    for number, mistake in enumerate(found, start=1):
        axes = figure.add_subplot(-(-len(found) // columns), columns, number)
        _show(axes, pixels(mistake.image))
        _draw(axes, mistake.box, "red", "")
        axes.set_title(mistake.caption, fontsize=7)
    plots.save(figure, file)


def _show(axes: Any, full: Array) -> None:
    """The image in its own coordinates, from few pixels."""
    step = max(1, -(-max(full.shape[:2]) // SHOWN_SIDE) // 2)
    axes.imshow(full[::step, ::step], extent=(0, full.shape[1], full.shape[0], 0))
    axes.axis("off")


def _draw(axes: Any, box: Array, colour: str, caption: str, *, style: str = "-") -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    axes.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linestyle=style, linewidth=1.2)
    )
    if caption:
        axes.text(left, top, caption, fontsize=6, color="white", backgroundcolor=colour, va="bottom")
