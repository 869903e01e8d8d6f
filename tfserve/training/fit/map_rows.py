"""The feature maps of a pretrained network for every image and for augmented copies, computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfserve.tensors.specs import Array
from tfserve.training.dataset.decoded_images import Store
from tfserve.training.dataset.sizes import network_size
from tfserve.training.fit import segmentation_decoder
from tfserve.training.fit.augment import Augment, move
from tfserve.training.fit.batches import Arrays
from tfserve.training.fit.features import Features, JoinedArrays
from tfserve.training.fit.pretrained import BackboneChoice
from tfserve.training.fit.segmentation_decoder import MULTIPLE, TRAINED_STRIDE
from tfserve.training.fit.segmentation_material import SegmentationMaterial, shrunk
from tfserve.training.fit.timing import TimedStage

IMAGE_S = 0.026
"""Seconds that two ordinary cores take for the maps of an image of 256x256."""
SIDES = (256, 192, 128)
"""The larger side of the images that the network sees: the first that can be afforded."""
MAPS_SHARE = 0.25
"""Of the allowance, at most this share goes to computing maps."""
MAX_COPIES = 4


class Moved:
    """Images and masks of a size with the same random augmentation, which is reproducible."""

    def __init__(self, pictures: Store, masks: Store, augment: Augment, seed: int) -> None:
        self.shape, self.dtype = pictures.shape, pictures.dtype
        self._pictures, self._masks, self._augment, self._seed = pictures, masks, augment, seed

    def batch(self, indices: Array) -> Array:
        """(len(indices), height, width, 3) float32 of 0 to 255."""
        return np.concatenate([self._picture(int(index)) for index in indices])

    def mask(self, index: int) -> Array:
        """(height, width) uint8."""
        known = tf.constant(self._masks.batch(np.array([index])))[..., tf.newaxis]
        return np.asarray(move(known, self._moves(known, index), smooth=False))[0, :, :, 0]

    def _picture(self, index: int) -> Array:
        image = tf.constant(self._pictures.batch(np.array([index])), tf.float32)
        moved = move(image, self._moves(image, index), smooth=True)
        return np.asarray(self._augment.lighten(moved, tf.constant([self._seed, index])))

    def _moves(self, images: Any, index: int) -> Any:
        return self._augment.moves(images, tf.constant([index, self._seed]))


class Copies(JoinedArrays):
    """Joined arrays that know where the copies of an image are."""

    def indices(self, indices: Array) -> Array:
        """Those of all copies of some images."""
        return np.concatenate([indices + number * self._count for number in range(len(self._parts))])


class KnownMaps:
    """The feature maps of a pretrained network for all images and for augmented copies, computed on first use."""

    def __init__(self, material: SegmentationMaterial, choice: BackboneChoice, allowance: float) -> None:
        assert choice.weights is not None
        self.name = choice.name
        self._material, self._weights = material, choice.weights
        self.size = self._affordable_size(allowance)
        self.copies = self._affordable_copies(allowance)
        self._network: Any = None
        self._rows: list[Arrays] = []
        self._masks: list[Arrays] = []

    @property
    def plain_s(self) -> float:
        """Seconds that the maps of all images take on two ordinary cores."""
        return self._material.count * image_s(self.size)

    @property
    def copies_s(self) -> float:
        return self.plain_s * self.copies * 1.2

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        return segmentation_decoder.shapes(self._known())

    @property
    def trained_size(self) -> tuple[int, int]:
        """Of the masks that decoders learn from."""
        return self.size[0] // TRAINED_STRIDE, self.size[1] // TRAINED_STRIDE

    def backbone(self) -> Any:
        """A new one, with its weights, or those of the model that the training starts from."""
        network = segmentation_decoder.backbone(self.size, self._weights)
        warm = self._material.run.warm
        if warm is not None and warm.earlier.backbone == self.name:
            warm.fill(network)
        return network

    def compute_plain(self, stage: TimedStage) -> None:
        """The rows of all images, if they are not known yet."""
        if not self._rows:
            self._rows.append(self._computed(self._material.pictures(self.size), "plain", stage, "images"))
            self._masks.append(self._material.masks(self.trained_size))

    def compute_copies(self, stage: TimedStage) -> None:
        """The rows and masks of randomly changed copies of all images."""
        run = self._material.run
        for number in range(len(self._rows) - 1, self.copies):
            moved = Moved(
                self._material.pictures(self.size), self._material.masks(self.size),
                Augment.from_parameters(run.parameters), run.parameters["seed"] + number,
            )  # fmt: skip
            what = f"augmented images, {number + 1} of {self.copies}"
            self._rows.append(self._computed(moved, f"copy{number}", stage, what))
            self._masks.append(self._moved_masks(moved))

    @property
    def is_complete(self) -> bool:
        return len(self._rows) == 1 + self.copies

    @property
    def rows(self) -> Copies:
        """Of all images, and of all copies that were computed."""
        return Copies(self._rows, self._material.count)

    @property
    def masks(self) -> Copies:
        return Copies(self._masks, self._material.count)

    def _moved_masks(self, moved: Moved) -> Store:
        size, run = self.trained_size, self._material.run
        masks = Store(self._material.count, size, lambda index: shrunk(moved.mask(index), size), run.work)
        masks.load(run.threads, lambda _: None)
        return masks

    def _known(self) -> Any:
        if self._network is None:
            self._network = segmentation_decoder.rows(self.backbone())
        return self._network

    def _computed(self, images: Arrays, name: str, stage: TimedStage, what: str) -> Features:
        run, message = self._material.run, f"Computing the feature maps of {what}"
        file = run.work / f"maps-{run.fingerprint[:16]}-{self.name}-{self.size[1]}x{self.size[0]}-{name}.npy"
        return Features.computed(
            file, self._known(), images, self._material.count,
            lambda share: stage.mention(stage.share, f"{message}: {share:.0%}"), dtype=np.float16,
        )  # fmt: skip

    def _affordable_size(self, allowance: float) -> tuple[int, int]:
        """Small images are enlarged, since the finest map has a quarter of the network's size."""
        run = self._material.run
        requested, found = run.parameters["image_size"], run.findings.images
        if requested != "auto":
            return network_size(found, requested, largest=requested, multiple=MULTIPLE)
        sizes = [network_size(found, side, largest=side, multiple=MULTIPLE) for side in SIDES]
        return next((size for size in sizes if len(found) * image_s(size) <= MAPS_SHARE * allowance), sizes[-1])

    def _affordable_copies(self, allowance: float) -> int:
        left = MAPS_SHARE * allowance / max(self.plain_s, 1e-9) - 1
        return int(np.clip(left / 1.2, 0, MAX_COPIES))


def leading(rows: Arrays, width: int) -> Arrays:
    """Only the first numbers of each row."""
    return rows if rows.shape == (width,) else _Leading(rows, width)


class _Leading:
    def __init__(self, rows: Arrays, width: int) -> None:
        self.shape, self.dtype = (width,), rows.dtype
        self._rows = rows

    def batch(self, indices: Array) -> Array:
        return self._rows.batch(indices)[:, : self.shape[0]]


def image_s(size: tuple[int, int]) -> float:
    """Seconds for the maps of an image of this size, on two ordinary cores."""
    return IMAGE_S * size[0] * size[1] / 256**2
