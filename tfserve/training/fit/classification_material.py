"""The data shared by the candidates of a classification: images with labels and weights, and the folds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset.decoded_images import Store
from tfserve.training.fit import batches
from tfserve.training.fit.batches import ImageSource
from tfserve.training.fit.candidates import FoldAnswers
from tfserve.training.fit.folds import Fold, Folds
from tfserve.training.fit.linear_head import HeadWeights
from tfserve.training.fit.pretrained import BackboneChoice
from tfserve.training.recipes.run import RecipeRun

UNBALANCED = 1.5
"""Classes are weighted when the largest has this many times the images of the smallest."""


@dataclass
class ClassificationMaterial:
    """The data shared by all candidates: the images with their labels, and the folds."""

    run: RecipeRun
    labels: Array
    folds: Folds
    stores: dict[tuple[int, int], Store] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        return len(self.run.findings.labels)

    def source(self, size: tuple[int, int]) -> ImageSource:
        """All images in a size; each is decoded once for each size."""
        run = self.run
        if size not in self.stores:
            what = f"images at {size[1]}x{size[0]} pixels"
            self.stores[size] = run.store(f"read {size}", what, (*size, 3), lambda index: run.pixels(index, size))
            run.keep(self.stores[size].batch)
        return ImageSource(self.stores[size], batches.labels_of(self.labels.tolist()))

    def prior(self, choice: BackboneChoice) -> HeadWeights | None:
        """The last layer of an earlier model on the same features, if no image is measured that it has learnt from."""
        warm = self.run.warm
        if warm is None or not warm.measures_unseen or warm.earlier.backbone != choice.name:
            return None
        weights = warm.class_weights()
        return None if weights is None else HeadWeights(*weights)

    def image_weights(self, indices: Array, *, from_ratio: float = 1.0) -> Array:
        """How much each image counts: more in small classes, if their sizes differ by this ratio.

        A strongly penalised head would predict the larger class, even if it has only one image more.
        """
        counts = np.bincount(self.labels[indices], minlength=self.classes)
        some = counts[counts > 0]
        if self.run.parameters["class_weights"] == "none" or some.max() < from_ratio * some.min():
            return np.ones(len(indices))
        weights = counts.sum() / (len(some) * np.maximum(counts, 1))
        return np.asarray(weights[self.labels[indices]])

    def class_weights(self, indices: Array) -> dict[int, float] | None:
        """The same for Keras; None while the classes are about equal in size."""
        weights = self.image_weights(indices, from_ratio=UNBALANCED)
        if (weights == 1).all():
            return None
        by_class = dict.fromkeys(range(self.classes), 1.0)
        return by_class | {
            int(label): float(weight) for label, weight in zip(self.labels[indices], weights, strict=True)
        }

    def outcome(self, fold: Fold, probabilities: Array) -> FoldAnswers:
        """From probabilities (variants, images, classes) of the held-out images."""
        truth = self.labels[fold.held_out]
        right = probabilities.argmax(axis=-1) == truth
        of_truth = probabilities[:, np.arange(len(truth)), truth]
        return FoldAnswers(probabilities, right.astype(np.float32), -np.log(np.maximum(of_truth, 1e-4)))
