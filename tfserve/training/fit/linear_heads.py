"""The candidates that train only a linear head on the frozen features of a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset.project_folders import KERAS_FILE
from tfserve.training.dataset.sizes import network_size
from tfserve.training.fit import backbones, linear_head
from tfserve.training.fit.augment import Augment
from tfserve.training.fit.candidates import FoldAnswers, preparation_of, stage_name
from tfserve.training.fit.classification_material import ClassificationMaterial
from tfserve.training.fit.delivery import Delivered
from tfserve.training.fit.features import Changed, Features
from tfserve.training.fit.folds import Fold
from tfserve.training.fit.linear_head import HeadWeights
from tfserve.training.fit.pretrained import KNOWN, BackboneChoice
from tfserve.training.fit.timing import TimedStage
from tfserve.training.recipes.run import RecipeRun

IMAGE_S = 0.02
"""Seconds that two ordinary cores take for the features of an image of 224x224."""
BUILD_S = 3.0
FEATURES_SHARE = 0.3
"""Of the allowance, at most this share goes to computing features, else smaller images are used."""
SMALLEST_KNOWN = 160
"""Pretrained networks recognise little in small images, so these are enlarged."""
COPIES = 2
FEW_ENOUGH = 1000
"""With more images, the pretrained classes add little information."""


class LinearHead:
    """Logistic regression on the features of a known network, which are computed once."""

    is_cheap = True

    def __init__(self, material: ClassificationMaterial, choice: BackboneChoice, allowance: float) -> None:
        self.name = f"linear head on {choice.name}"
        self._material, self._choice = material, choice
        self.size = self._affordable_size(allowance)
        self.network: Any = None
        prior = material.prior(choice)
        self._priors = [None] if prior is None else [None, prior]
        self._features: Features | None = None
        self.blocks: list[int] = []

    def cost(self, images: int) -> float:
        return 0.3 + 2e-9 * images * 1280 * self._material.classes * 100

    def preparation(self) -> float:
        return BUILD_S + len(self._material.labels) * image_s(self.size)

    def unsuitable(self) -> str | None:
        return None

    def evaluate(self, number: int, fold: Fold) -> FoldAnswers:
        rows = self.rows()
        with self._material.run.clock.stage(stage_name(self, number)):
            solved = [head for prior in self._priors for head in self._solve(fold.training, prior=prior)]
        held_out = rows.batch(fold.held_out)
        return self._material.outcome(fold, np.stack([head.probabilities(held_out) for head in solved]))

    def deliver(self, variant: int, indices: Array) -> Delivered:
        """Solved for the chosen penalty on all of `indices`."""
        rows = self.rows()
        prior, last = divmod(variant, len(linear_head.PENALTIES))
        with self._material.run.clock.stage(stage_name(self)):
            solved = self._solve(indices, linear_head.PENALTIES[: last + 1], prior=self._priors[prior])[-1]
        head = backbones.head(rows.shape[0], self._material.classes)
        head.get_layer("logits").set_weights([solved.kernel, solved.bias])
        network = backbones.with_probabilities(self.network, head)
        return Delivered(network, self.size, self._choice.name)

    def _solve(
        self, indices: Array, penalties: Sequence[float] = linear_head.PENALTIES, *, prior: HeadWeights | None = None
    ) -> list[HeadWeights]:
        """One head for each penalty, from all versions of the images of `indices`."""
        versions = self._versions()
        return linear_head.heads(
            np.concatenate([each.batch(indices) for each in versions]),
            np.tile(self._material.labels[indices], len(versions)), self._material.classes,
            weights=np.tile(self._material.image_weights(indices), len(versions)), penalties=penalties,
            prior=prior, known=backbones.known_head(self._choice) if len(indices) <= FEW_ENOUGH else None,
            blocks=self.blocks,
        )  # fmt: skip

    def _versions(self) -> Sequence[Features]:
        """The features of the images as they are, then of changed copies."""
        return [self.rows()]

    def rows(self) -> Features:
        """The features of all images, computed on first use."""
        if self._features is None:
            run, count = self._material.run, len(self._material.labels)
            self.network, self.blocks = backbones.descriptions(self._choice, self.size, run.warm)
            source = self._material.source(self.size)
            file = run.work / f"descriptions-{run.fingerprint[:16]}-{self._choice.name}-{self.size[0]}.npy"
            message = f"Computing the features of {count} images"
            with run.clock.stage(preparation_of(self), message) as stage:
                self._features = Features.computed(
                    file, self.network, source.inputs, count,
                    lambda share: stage.mention(share, f"{message}: {share:.0%}"),
                )  # fmt: skip
        return self._features

    def _affordable_size(self, allowance: float) -> tuple[int, int]:
        """The size of the images, from those that the network was trained for."""
        run, sizes = self._material.run, KNOWN[self._choice.name].sizes
        requested = run.parameters["image_size"]
        side = max(network_size(run.findings.images, requested, largest=max(sizes), multiple=1))
        side = min(sizes, key=lambda known: (known < side, known))
        if requested == "auto":
            side, count = max(side, SMALLEST_KNOWN), len(self._material.labels)
            fitting = [each for each in sizes if count * image_s((each, each)) <= FEATURES_SHARE * allowance]
            side = min(side, max(fitting, default=min(sizes)))
        return side, side


def known_network(run: RecipeRun) -> BackboneChoice | None:
    """The known network of the model that the training starts from, if it has one."""
    if run.warm is None or run.warm.earlier.backbone not in KNOWN:
        return None
    earlier = run.warm.earlier
    return BackboneChoice(earlier.backbone, f"with the weights of task {earlier.task_id}", earlier.folder / KERAS_FILE)


class AugmentedHead(LinearHead):
    """The same with augmented copies of the training images: for objects that are rotated, shifted or darker."""

    is_cheap = False

    def __init__(
        self, material: ClassificationMaterial, choice: BackboneChoice, allowance: float, plain: LinearHead
    ) -> None:
        super().__init__(material, choice, allowance)
        self.name = f"{plain.name}, augmented"
        self._plain = plain
        self.size = plain.size
        self._copied: list[Features] = []

    def cost(self, images: int) -> float:
        return super().cost(images * (COPIES + 1))

    def preparation(self) -> float:
        return len(self._material.labels) * COPIES * image_s(self.size) * 1.3

    def _versions(self) -> Sequence[Features]:
        return [self.rows(), *self._copies()]

    def rows(self) -> Features:
        rows = self._plain.rows()
        self.network, self.blocks = self._plain.network, self._plain.blocks
        self._copies()
        return rows

    def _copies(self) -> list[Features]:
        """The features of each copy of all images."""
        if not self._copied:
            self._plain.rows()
            with self._material.run.clock.stage(preparation_of(self)) as stage:
                self._copied = [self._copy(number, stage) for number in range(COPIES)]
        return self._copied

    def _copy(self, number: int, stage: TimedStage) -> Features:
        run, message = self._material.run, f"Computing the features of augmented images, {number + 1} of {COPIES}"
        source, augment = self._material.source(self.size), Augment.from_parameters(run.parameters)
        file = run.work / f"descriptions-{run.fingerprint[:16]}-{self._choice.name}-{self.size[0]}-copy{number}.npy"
        return Features.computed(
            file, self._plain.network, Changed(source.inputs, augment, run.parameters["seed"] + number),
            len(self._material.labels), lambda share: stage.mention((number + share) / COPIES, message),
        )  # fmt: skip


def image_s(size: tuple[int, int]) -> float:
    """Seconds for the features of an image on two ordinary cores."""
    return IMAGE_S * size[0] * size[1] / 224**2
