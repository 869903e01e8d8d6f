"""The linear head of a classification: its mean balanced accuracy over many random splits of a folder of images.

    python -m benchmarks.linear_heads FOLDER --learnt 12 --splits 8

FOLDER has a folder for each class, as `python -m benchmarks.training_sets` makes them. The features of all images are
computed once. Each split learns from `--learnt` images of each class, and is measured on up to 40 others of each. It is
compared with scikit-learn's logistic regression on the features of the last layer.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfserve.runtimes.image_files import WHITE
from tfserve.tensors.specs import Array
from tfserve.training.dataset import image_reading
from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.fit import backbones, linear_head, pretrained
from tfserve.training.fit.folds import divide
from tfserve.training.fit.linear_head import HeadWeights

MEASURED = 40
HELD_OUT = 0.2
SIDE = 224


@dataclass(frozen=True)
class Described:
    """All images of a folder; `blocks` are the widths of the parts of a row."""

    rows: Array
    labels: Array
    blocks: list[int]
    known: HeadWeights | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--learnt", type=int, default=12, help="images of each class")
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--side", type=int, default=SIDE, help="of the images in pixels")
    options = parser.parse_args()
    described = describe(options.folder, options.side)
    figures = [measured(described, options.learnt, seed) for seed in range(options.splits)]
    ours, reference = np.mean(figures, axis=0)
    error = np.std([a - b for a, b in figures]) / np.sqrt(len(figures))
    print(f"linear head {ours:.3f}, scikit-learn {reference:.3f}; standard error of the difference {error:.3f}")


def describe(folder: Path, side: int) -> Described:
    classes = sorted(each for each in folder.iterdir() if each.is_dir())
    files = [(file, label) for label, each in enumerate(classes) for file in sorted(each.iterdir())]
    choice = pretrained.choose("efficientnet-lite0", "auto")
    network, blocks = backbones.descriptions(choice, (side, side))
    pixels = np.stack([image_reading.pixels(file, (side, side), WHITE) for file, _ in files])
    rows = np.asarray(network.predict(pixels.astype(np.float32), batch_size=32, verbose=0))
    return Described(rows, np.array([label for _, label in files]), blocks, backbones.known_head(choice))


def measured(described: Described, learnt: int, seed: int) -> tuple[float, float]:
    """Balanced accuracy of the head and of scikit-learn on a split."""
    training, unseen = split(described.labels, learnt, seed)
    labels, truth = described.labels[training], described.labels[unseen]
    ours = head(described, training).probabilities(described.rows[unseen]).argmax(axis=1)
    last = described.rows[:, : described.blocks[0]]
    return _balanced(truth, ours), _balanced(truth, _reference(last[training], labels, last[unseen]))


def split(labels: Array, learnt: int, seed: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    orders = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    training = [order[: min(learnt, len(order) - 1)] for order in orders]
    unseen = [order[len(some) :][:MEASURED] for order, some in zip(orders, training, strict=True)]
    return np.concatenate(training), np.concatenate(unseen)


def head(described: Described, training: Array) -> HeadWeights:
    """With the penalty that is best on the folds, as a training chooses it."""
    labels = described.labels[training]
    images = [ImageFile(str(at), SIDE, SIDE, False, str(at), int(label)) for at, label in enumerate(labels)]
    weights = 1 / np.bincount(labels)[labels]
    losses: Any = 0.0
    for fold in divide(images, HELD_OUT, 1).folds:
        solved = _solved(described, training[fold.training])
        chances = np.stack([each.probabilities(described.rows[training[fold.held_out]]) for each in solved])
        of_truth = chances[:, np.arange(len(fold.held_out)), labels[fold.held_out]]
        right = chances.argmax(axis=-1) == labels[fold.held_out]
        losses = losses + (-np.log(np.maximum(of_truth, 1e-4)) - right) @ weights[fold.held_out]
    return _solved(described, training)[int(np.argmin(losses))]


def _solved(described: Described, indices: Array) -> list[HeadWeights]:
    labels = described.labels[indices]
    counts = np.bincount(labels)
    return linear_head.heads(
        described.rows[indices], labels, int(described.labels.max()) + 1, weights=1 / counts[labels],
        known=described.known, blocks=described.blocks,
    )  # fmt: skip


def _reference(rows: Array, labels: Array, unseen: Array) -> Array:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
    return np.asarray(model.fit(rows, labels).predict(unseen))


def _balanced(truth: Array, predicted: Array) -> float:
    return float(np.mean([(predicted[truth == each] == each).mean() for each in np.unique(truth)]))


if __name__ == "__main__":
    main()
