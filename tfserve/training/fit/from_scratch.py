"""A candidate: a compact network, trained from scratch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset.sizes import network_size
from tfserve.training.dataset.splitting import aside
from tfserve.training.fit import backbones, batches
from tfserve.training.fit.augment import Augment
from tfserve.training.fit.candidates import FoldAnswers
from tfserve.training.fit.checkpoints import State
from tfserve.training.fit.classification_material import ClassificationMaterial
from tfserve.training.fit.delivery import Delivered, FoldStates, useful_epochs
from tfserve.training.fit.earlier_models import COMPACT
from tfserve.training.fit.fitting import FIT_S, TRAINED_MACS_PER_S
from tfserve.training.fit.folds import Fold
from tfserve.training.fit.network_training import PREDICTED_AT_ONCE, NetworkTraining
from tfserve.training.fit.warm_start import EPOCHS_SHARE
from tfserve.training.recipes import schedule_defaults

LARGEST = 128
RATE = 3e-3
FEW_PER_CLASS, FEW_IMAGES = 15, 150
FEWEST_EPOCHS = 3
SAFETY = 0.95
"""Of the time that is left, this share is planned with."""


class Compact:
    """A small network trained from scratch on augmented images, for images unlike the photographs of ImageNet."""

    is_cheap = False

    def __init__(self, material: ClassificationMaterial, allowance: float) -> None:
        self.name = "compact network from scratch"
        self._material = material
        run = material.run
        self._states = FoldStates(run.work, self.name)
        self._warm = run.warm if run.warm is not None and run.warm.earlier.backbone == COMPACT else None
        self.size = network_size(
            run.findings.images, run.parameters["image_size"], largest=LARGEST, multiple=4
        )  # fmt: skip
        self._grey = all(image.grey for image in run.findings.images)
        self._macs = backbones.compact_macs(self.size)
        self._epochs = self._affordable_epochs(allowance)

    def cost(self, images: int) -> float:
        return FIT_S + self._epochs * self._epoch_s(images)

    def preparation(self) -> float:
        return len(self._material.labels) * 1e-3

    def unsuitable(self) -> str | None:
        count, classes = len(self._material.folds.development), self._material.classes
        if self._warm is None and count < max(FEW_IMAGES, FEW_PER_CLASS * classes):
            return f"{count} images of {classes} classes are too few to train a network from scratch"
        return None

    def evaluate(self, number: int, fold: Fold) -> FoldAnswers:
        labels = self._material.labels
        training, selection = aside(labels, fold.training, self._material.run.parameters["seed"])
        model, state = self._fit(f"fold {number + 1}", training, selection, watched=fold.held_out)
        self._states.keep(f"fold {number + 1}", state)
        return self._material.outcome(fold, self._predict(backbones.with_probabilities(model), fold.held_out))

    def deliver(self, _: int, indices: Array) -> Delivered:
        """Trained from the start on all of `indices`, for as many epochs as were useful on the folds."""
        states = self._states.read(len(self._material.folds.folds))
        if states:
            self._epochs = useful_epochs(states)
        model, state = self._fit("all images", indices, indices[:0], watched=indices[:0])
        network = backbones.with_probabilities(model)
        return Delivered(network, self.size, "compact", (states or [state])[0])

    def _predict(self, network: Any, indices: Array) -> Array:
        """(1, images, classes) probabilities."""
        data = batches.plain(self._material.source(self.size), indices, PREDICTED_AT_ONCE, self._material.run.threads)
        return np.asarray(network.predict(data, verbose=0))[np.newaxis]

    def _fit(self, name: str, training: Array, selection: Array, *, watched: Array) -> tuple[Any, State]:
        parameters = self._material.run.parameters
        keras.utils.set_random_seed(parameters["seed"])
        model = backbones.compact(self.size, self._material.classes, grey=self._grey)
        if self._warm is not None:
            self._warm.fill(model)
        network_training = NetworkTraining(
            self._material, self.name, self.size, self._material.source(self.size),
            self._material.run.rate(RATE, continued=self._warm is not None), self._epochs,
            Augment.from_parameters(parameters),
        )  # fmt: skip
        return model, network_training.fit(model, name, training, selection=selection, watched=watched)

    def _epoch_s(self, images: float) -> float:
        batch_size = schedule_defaults.batch_size(self._material.run.parameters, round(images))
        return images * self._macs / TRAINED_MACS_PER_S + max(1.0, images / batch_size) * 0.01 + 0.05

    def _affordable_epochs(self, allowance: float) -> int:
        """The usual number; fewer when a fold and all images would take too long, but at least half of it."""
        folds = self._material.folds
        images, all_images = len(folds.folds[0].training), len(folds.development)
        share = 1.0 if self._warm is None else EPOCHS_SHARE
        usual = schedule_defaults.epochs(self._material.run.parameters, images, share=share)
        if self._material.run.parameters["epochs"] != "auto":
            return usual
        spare = SAFETY * allowance - self.preparation() - 2 * FIT_S
        affordable = int(spare / (self._epoch_s(images) + self._epoch_s(all_images)))
        return max(FEWEST_EPOCHS, min(usual, max(affordable, usual // 2)))
