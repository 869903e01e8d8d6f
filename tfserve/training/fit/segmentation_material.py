"""The data shared by the candidates of a segmentation: images and masks in a size, folds, weights, and measuring."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfserve.tensors.specs import Array
from tfserve.training.atomic_files import written_aside
from tfserve.training.dataset import masks
from tfserve.training.dataset.decoded_images import Store
from tfserve.training.dataset.image_reading import Bad
from tfserve.training.dataset.sizes import network_size
from tfserve.training.fit.batches import Arrays
from tfserve.training.fit.candidates import Candidate, FoldAnswers, kept_name
from tfserve.training.fit.folds import Fold, Folds, divide_loosely
from tfserve.training.fit.unet import IGNORED
from tfserve.training.recipes.run import RecipeRun, png
from tfserve.training.report import evaluation

COUNTED_SIDE = 256
"""Pixels of the classes are counted in masks of this size."""
LARGEST_MEASURED = 1024
"""Masks with a larger side are measured in this size."""
MOST_PROBABILITIES = 16_000_000
"""Of all pixels and classes of an image, in memory at once."""
SMALL = (128, 128)
"""The size of the predicted masks that are kept for the verdict and the drawing."""


@dataclass
class SegmentationMaterial:
    """All images and masks of a run."""

    run: RecipeRun
    stores: dict[tuple[str, tuple[int, int]], Store] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.run.findings.images)

    @property
    def classes(self) -> int:
        return len(self.run.findings.labels)

    def pictures(self, size: tuple[int, int]) -> Store:
        """Images (height, width, 3); each is decoded once for each size."""
        run = self.run
        return self._store("images", size, (*size, 3), lambda n: run.pixels(n, size))

    def masks(self, size: tuple[int, int]) -> Store:
        """Class numbers (height, width)."""
        return self._store("masks", size, size, lambda n: shrunk(mask(self.run, n), size))

    def read(self, size: tuple[int, int]) -> None:
        """Reads all images and masks in this size."""
        self.run.keep(self.pictures(size).batch, self.masks(size).batch)

    def _store(self, what: str, size: tuple[int, int], shape: Sequence[int], read: Callable[[int], Array]) -> Store:
        if (what, size) not in self.stores:
            described = f"{what} at {size[1]}x{size[0]} pixels"
            self.stores[what, size] = self.run.store(f"read {what} {size}", described, shape, read)
        return self.stores[what, size]

    @cached_property
    def pixels(self) -> Array:
        """(images, classes) shares of each mask that belong to each class."""
        size = network_size(self.run.findings.images, COUNTED_SIDE, largest=COUNTED_SIDE, multiple=1)
        store = self.masks(size)
        counts = np.zeros((self.count, self.classes))
        for number in range(self.count):
            known = store.batch(np.array([number])).ravel()
            counts[number] = np.bincount(known[known != IGNORED], minlength=self.classes)
        return counts / (size[0] * size[1])

    @cached_property
    def folds(self) -> Folds:
        """One division of the images, in which each fold gets images with the rare classes."""
        found, chosen = self.run.findings.images, self.run.parameters
        rarest = rarest_classes(self.pixels)
        folds = divide_loosely(found, rarest, chosen["validation_split"], chosen["seed"])
        return dataclasses.replace(folds, folds=folds.folds[: folds.count])

    def class_weights(self, indices: Array) -> Array:
        """(classes,) the weight of a pixel of each class."""
        return class_weights(self.pixels[indices].sum(axis=0), balanced=self.run.parameters["class_weights"] == "auto")

    # --- measuring

    def outcome(
        self, candidate: Candidate, number: int, fold: Fold, network: Any, inputs: Arrays,
        report: Callable[[float], None],
    ) -> FoldAnswers:  # fmt: skip
        """What a network predicts for the images of a fold that are held out; each of its outputs is a variant.

        `inputs` has what the network takes for each image: pixels, or a row of maps. The outcome's output is the
        confusion of each image; small predicted masks are kept in a file.
        """
        confusions, small = self.measure(network, inputs, fold.held_out, report)
        with written_aside(self._small_file(candidate, number)) as aside, aside.open("wb") as file:
            np.savez_compressed(file, masks=small)
        credit = np.stack([credits_of(each) for each in confusions])
        return FoldAnswers(confusions, credit, np.zeros_like(credit))

    def measure(
        self, network: Any, inputs: Arrays, indices: Array, report: Callable[[float], None]
    ) -> tuple[Array, Array]:  # fmt: skip
        """Confusions (variants, images, classes, classes) int32, predicted masks (variants, images, *SMALL) uint8."""
        outputs = len(network.outputs)
        confusions = np.zeros((outputs, len(indices), self.classes, self.classes), np.int32)
        small = np.zeros((outputs, len(indices), *SMALL), np.uint8)
        predict = predictor(network)
        for at, index in enumerate(indices):
            truth = measured_mask(self.run, index)
            predicted = predict(inputs.batch(np.array([index])), truth.shape)
            for variant, each in enumerate(predicted):
                confusions[variant, at] = evaluation.confusion(truth, each, self.classes)
                small[variant, at] = shrunk(each, SMALL)
            report((at + 1) / len(indices))
        return confusions, small

    def small_masks(self, candidate: Candidate, variant: int, folds: int) -> Array:
        """What was predicted for the held-out images of the first folds, (images, *SMALL)."""
        kept = []
        for number in range(folds):
            with np.load(self._small_file(candidate, number), allow_pickle=False) as content:
                kept.append(content["masks"][variant])
        return np.concatenate(kept)

    def _small_file(self, candidate: Candidate, number: int) -> Path:
        return self.run.work / f"masks-{self.run.fingerprint[:16]}-{kept_name(candidate)}-{number}.npz"


def predictor(network: Any) -> Callable[[Array, tuple[int, ...]], list[Array]]:
    """From the input for one image, and a size, to class numbers of that size for each output."""

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator, unused-ignore]
    def compute(image: Any, size: Any) -> Any:
        outputs = network(tf.cast(image, tf.float32), training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [tf.cast(tf.argmax(tf.image.resize(each, size)[0], axis=-1), tf.uint8) for each in outputs]

    return lambda image, size: [np.asarray(each) for each in compute(image, tf.constant(size, tf.int32))]


def mask(run: RecipeRun, index: int) -> Array:
    """Class numbers (height, width) uint8, in the image's own size; `IGNORED` where no class is known.

    If the file was deleted or changed since it was examined, what was read of it. Raises `OSError` when nothing was.
    """
    image, found = run.findings.images[index], run.findings
    try:
        values = masks.read(run.project / str(image.mask))
        known = [*found.numbers, *([] if found.ignore is None else [found.ignore])]
        if values.shape != (image.height, image.width) or not np.isin(values, known).all():
            raise Bad("it was changed after the dataset was checked")
    except Bad as error:
        if run.masks is None:
            raise OSError(f"{image.mask}: {error}") from error
        sentence = f"{image.mask} was deleted or changed after it was read; the pixels read before are used."
        if sentence not in run.notes:
            run.note(sentence)
        return shrunk(run.masks(np.array([index]))[0], (image.height, image.width))
    classes = np.searchsorted(np.asarray(found.numbers), values).astype(np.uint8)
    if found.ignore is not None:
        classes[values == found.ignore] = IGNORED
    return classes


def measured_mask(run: RecipeRun, index: int) -> Array:
    """As `mask`, smaller for very large images, and for large ones with many classes."""
    known = mask(run, index)
    height, width = known.shape
    scale = min(1.0, LARGEST_MEASURED / max(height, width))
    size = bounded_size(max(1, round(height * scale)), max(1, round(width * scale)), len(run.findings.labels))
    return known if size == known.shape else shrunk(known, size)


def bounded_size(height: int, width: int, classes: int) -> tuple[int, int]:
    """The size in which an image of this size has at most `MOST_PROBABILITIES`: its own, or a smaller one."""
    scale = math.sqrt(MOST_PROBABILITIES / (height * width * classes))
    return (height, width) if scale >= 1 else (max(1, int(height * scale)), max(1, int(width * scale)))


def bounded_file(run: RecipeRun, index: int) -> bytes:
    """The file of the nth image, on which a model can be tried: a smaller one if its probabilities take too much
    memory in its own size."""
    image = run.findings.images[index]
    size = bounded_size(image.height, image.width, len(run.findings.labels))
    if size == (image.height, image.width):
        return run.data(index)
    return png(run.pixels(index, size), (size[1], size[0]))


def shrunk(known: Array, size: tuple[int, int]) -> Array:
    """Each pixel takes the class of the nearest one."""
    rows = ((np.arange(size[0]) + 0.5) * known.shape[0] / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * known.shape[1] / size[1]).astype(int)
    return known[np.ix_(rows, columns)]


def rarest_classes(pixels: Array) -> list[int]:
    """For each image its class that is in the fewest images; ties go to the class with fewer pixels.

    `pixels` is (images, classes). The background counts only where nothing else is.
    """
    present = pixels > 0
    images_with = present.sum(axis=0) + pixels.sum(axis=0) / (pixels.sum() + 1.0)
    images_with[0] = np.inf
    ranks = np.where(present, images_with, np.inf)
    return [int(row.argmin()) for row in ranks]


def class_weights(pixels: Array, *, balanced: bool) -> Array:
    """Weights of the classes whose mean over all pixels is 1. `pixels` counts those of each class.

    The root of the inverse frequency: rare classes are learnt, and are not found where they are not.
    """
    if not balanced:
        return np.ones(len(pixels), np.float32)
    frequency = np.maximum(pixels / max(pixels.sum(), 1e-9), 1e-4)
    weights = 1 / np.sqrt(frequency)
    return np.asarray(weights / (weights * frequency).sum(), np.float32)


def credits_of(confusions: Array) -> Array:
    """What each image contributes to the mean IoU of all, (images,): their mean is exactly that.

    `confusions` is (images, classes, classes). The contributions are the first-order influence of each image, so that
    the spread of differences between two candidates says how sure it is that one of them is better.
    """
    hits = np.diagonal(confusions, axis1=1, axis2=2).astype(np.float64)
    truth, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    unions = truth + predicted - hits
    total = np.maximum(unions.sum(axis=0), 1)
    iou = hits.sum(axis=0) / total
    counted = truth.sum(axis=0) > 0
    if counted[1:].any():
        counted[0] = False
    if not counted.any():
        return np.zeros(len(confusions))
    each = iou + len(confusions) * (hits - iou * unions) / total
    return np.asarray(each[:, counted].mean(axis=1))
