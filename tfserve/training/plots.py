"""Pictures of a training, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfserve.tensors import Array

MARGIN_INCHES = 0.12
MAX_LABELS = 40
"""More classes than this are not written at the sides of a matrix."""


def curves(file: Path, history: Mapping[str, Sequence[float]]) -> None:
    """A picture for each metric, with the images put aside beside the ones learnt from."""
    names = [name for name in history if not name.startswith("val_")]
    figure = new_figure(5 * len(names), 3.6)
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), place)
        epochs = range(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], label="training")
        if f"val_{name}" in history:
            axes.plot(epochs, history[f"val_{name}"], label="put aside")
        axes.set(title=name.replace("_", " "), xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, file)


def candidates(
    file: Path, rows: Sequence[tuple[str, float | None, float]], *, score: str = "balanced accuracy"
) -> None:  # fmt: skip
    """A bar for each candidate that was measured: its name, score, and the spread over folds."""
    known = [(name, score, spread) for name, score, spread in rows if score is not None]
    figure = new_figure(7, 1.2 + 0.5 * len(known))
    axes = figure.add_subplot()
    names = [name for name, _, _ in known]
    axes.barh(names, [mean for _, mean, _ in known], xerr=[spread for _, _, spread in known], color="tab:blue")
    axes.set(xlabel=f"{score} on the selection folds", xlim=(0, 1))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    save(figure, file)


def confusion_matrix(file: Path, matrix: Array, labels: Sequence[str]) -> None:
    side = min(14.0, 3.0 + 0.4 * len(labels))
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    if len(labels) <= MAX_LABELS:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
    if len(labels) <= 20 and matrix.max() < 100_000:
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=7)
    save(figure, file)


def worst_mistakes(file: Path, images: Sequence[Array], captions: Sequence[str]) -> None:
    """Up to 24 images, each with a line of text above it."""
    if not images:
        figure = new_figure(4, 1)
        figure.text(0.5, 0.5, "no mistakes on the held-out images", ha="center", va="center")
        return save(figure, file)
    columns = min(6, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(2.2 * columns, 2.5 * rows)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(image)
        axes.set_title(caption, fontsize=7)
        axes.axis("off")
    return save(figure, file)


def sensitivity(file: Path, images: Sequence[Array], maps: Sequence[Array], captions: Sequence[str]) -> None:
    """Each image with the parts coloured that its answer depends on: red where covering it costs probability."""
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(2.8 * columns, 3.0 * rows)
    for place, (image, drawn, caption) in enumerate(zip(images, maps, captions, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, place)
        height, width = image.shape[:2]
        most = max(0.05, float(np.abs(drawn).max()))
        axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        axes.imshow(
            drawn, cmap="seismic", vmin=-most, vmax=most, alpha=0.45, interpolation="bilinear",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )  # fmt: skip
        axes.set_title(caption, fontsize=7)
        axes.axis("off")
    save(figure, file)


def masks(file: Path, rows: Sequence[tuple[Array, Array, Array]], classes: int) -> None:
    """For each image: itself, the true mask over it, the predicted mask over it. Masks are class numbers."""
    figure = new_figure(7.5, 2.6 * len(rows))
    for row, (image, truth, predicted) in enumerate(rows):
        for column, (title, mask) in enumerate((("image", None), ("true", truth), ("predicted", predicted)), start=1):
            axes = figure.add_subplot(len(rows), 3, 3 * row + column)
            axes.imshow(image)
            if mask is not None:
                shown = np.ma.masked_equal(mask, 0)
                axes.imshow(shown, cmap="tab10", alpha=0.6, vmin=1, vmax=max(10, classes), interpolation="nearest")
            if row == 0:
                axes.set_title(title)
            axes.axis("off")
    save(figure, file)


def new_figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width, 3.0), height), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=MARGIN_INCHES, h_pad=MARGIN_INCHES)
    return figure


def save(figure: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)
