"""What the candidates of a classification have in common: the images with their labels and weights, and the folds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfserve.tensors import Array
from tfserve.training import datasets, images
from tfserve.training.candidates import Outcome
from tfserve.training.checkpoints import State
from tfserve.training.datasets import Source
from tfserve.training.folds import Fold, Folds
from tfserve.training.known_networks import Choice
from tfserve.training.linear_head import Head
from tfserve.training.run import Run
from tfserve.training.store import Store

UNBALANCED = 1.5
"""Classes count differently when the largest has so many times the images of the smallest."""


@dataclass
class Material:
    """What all candidates have in common: the images with their labels, and the folds."""

    run: Run
    labels: Array
    folds: Folds
    stores: dict[tuple[int, int], Store] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        return len(self.run.findings.labels)

    def source(self, size: tuple[int, int]) -> Source:
        """All images in a size; each is decoded once for each size."""
        run = self.run
        if size not in self.stores:
            count = len(self.labels)
            store = Store(
                count,
                (*size, 3),
                lambda place: images.pixels(run.file(place), size, run.background),
                run.work,
            )
            message = f"reads {count} images in {size[1]}x{size[0]} pixels"
            with run.clock.stage(f"read {size}", message) as stage:
                store.load(run.threads, lambda share: stage.mention(share, f"{message}: {share:.0%}"))
            self.stores[size] = store
            run.keep(store.batch)
        return Source(self.stores[size], datasets.labels_of(self.labels.tolist()))

    def prior(self, choice: Choice) -> Head | None:
        """The last layer of an earlier model on the same features, if no image is measured that it has learnt from."""
        warm = self.run.warm
        if warm is None or not warm.measures_unseen or warm.earlier.backbone != choice.name:
            return None
        weights = warm.class_weights()
        return None if weights is None else Head(*weights)

    def image_weights(self, places: Array, *, from_ratio: float = 1.0) -> Array:
        """How much each image counts: more in small classes, if their sizes differ by this ratio.

        A strongly penalised head would answer with the larger class, even if that has one image more.
        """
        counts = np.bincount(self.labels[places], minlength=self.classes)
        some = counts[counts > 0]
        if self.run.parameters["class_weights"] == "none" or some.max() < from_ratio * some.min():
            return np.ones(len(places))
        weights = counts.sum() / (len(some) * np.maximum(counts, 1))
        return np.asarray(weights[self.labels[places]])

    def class_weights(self, places: Array) -> dict[int, float] | None:
        """The same for Keras; None while the classes are about equal in size."""
        weights = self.image_weights(places, from_ratio=UNBALANCED)
        if (weights == 1).all():
            return None
        by_class = dict.fromkeys(range(self.classes), 1.0)
        return by_class | {
            int(label): float(weight) for label, weight in zip(self.labels[places], weights, strict=True)
        }

    def outcome(self, fold: Fold, probabilities: Array) -> Outcome:
        """From probabilities (variants, images, classes) of the held-out images."""
        truth = self.labels[fold.held_out]
        right = probabilities.argmax(axis=-1) == truth
        of_truth = probabilities[:, np.arange(len(truth)), truth]
        return Outcome(probabilities, right.astype(np.float32), -np.log(np.maximum(of_truth, 1e-4)))


@dataclass
class Delivered:
    """The trained network, with probabilities as its output, and the images that it takes."""

    network: Any
    source: Source
    backbone: str
    state: State | None = None
