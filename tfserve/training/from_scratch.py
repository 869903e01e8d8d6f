"""A candidate: a compact network, trained from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from tfserve.tensors import Array
from tfserve.training import backbones, datasets, pace
from tfserve.training.augment import Augment
from tfserve.training.candidates import Outcome, slug
from tfserve.training.checkpoints import State
from tfserve.training.earlier_models import COMPACT
from tfserve.training.folds import Fold
from tfserve.training.material import Delivered, Material
from tfserve.training.network_training import FIT_S, PREDICTED_AT_ONCE, TRAINED_MACS_PER_S, NetworkTraining
from tfserve.training.sizes import network_size
from tfserve.training.splitting import aside
from tfserve.training.warm_start import EPOCHS_SHARE
from tfserve.training.writing import written_aside

LARGEST = 128
RATE = 3e-3
FEW_PER_CLASS, FEW_IMAGES = 15, 150
FEWEST_EPOCHS = 3
SAFETY = 0.95
"""Of the time that is left, this share is planned with."""


class Compact:
    """A small network trained from scratch on randomly changed images: for what photographs say nothing about."""

    is_cheap = False

    def __init__(self, material: Material, allowance: float) -> None:
        self.name = "compact network from scratch"
        self._material = material
        run = material.run
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
            return f"{count} images of {classes} classes are too few to learn a network from scratch"
        return None

    def evaluate(self, number: int, fold: Fold) -> Outcome:
        labels = self._material.labels
        training, selection = aside(labels, fold.training, self._material.run.parameters["seed"])
        model, state = self._fit(f"fold {number + 1}", training, selection, watched=fold.held_out)
        with written_aside(self._state_file(number)) as file:
            file.write_bytes(msgspec.json.encode(state))
        return self._material.outcome(fold, self._predict(backbones.with_probabilities(model), fold.held_out))

    def deliver(self, _: int, places: Array) -> Delivered:
        """Trained anew on all of `places`, for as many epochs as were useful on the folds."""
        states = self._states()
        if states:
            useful = [each.best_epoch if each.epoch < each.epochs else each.epochs for each in states]
            self._epochs = round(float(np.median(useful)))
        model, state = self._fit("all images", places, places[:0], watched=places[:0])
        network = backbones.with_probabilities(model)
        return Delivered(network, self._material.source(self.size), "compact", (states or [state])[0])

    def _state_file(self, number: int) -> Path:
        return self._material.run.work / slug(f"{self.name} fold {number + 1}") / "state.json"

    def _states(self) -> list[State]:
        """How the trainings on folds ended, also those of earlier attempts."""
        files = (self._state_file(number) for number in range(len(self._material.folds.folds)))
        return [msgspec.json.decode(file.read_bytes(), type=State) for file in files if file.is_file()]

    def _predict(self, network: Any, places: Array) -> Array:
        """(1, images, classes) probabilities."""
        data = datasets.plain(self._material.source(self.size), places, PREDICTED_AT_ONCE, self._material.run.threads)
        return np.asarray(network.predict(data, verbose=0))[np.newaxis]

    def _fit(self, name: str, training: Array, selection: Array, *, watched: Array) -> tuple[Any, State]:
        parameters = self._material.run.parameters
        keras.utils.set_random_seed(parameters["seed"])
        model = backbones.compact(self.size, self._material.classes, grey=self._grey)
        if self._warm is not None:
            self._warm.fill(model)
        network_training = NetworkTraining(
            self._material, self.name, self._material.source(self.size),
            self._material.run.rate(RATE, continued=self._warm is not None), self._epochs,
            Augment.from_parameters(parameters),
        )  # fmt: skip
        return model, network_training.fit(model, name, training, selection=selection, watched=watched)

    def _epoch_s(self, images: float) -> float:
        batch_size = pace.batch_size(self._material.run.parameters, round(images))
        return images * self._macs / TRAINED_MACS_PER_S + max(1.0, images / batch_size) * 0.01 + 0.05

    def _affordable_epochs(self, allowance: float) -> int:
        """The usual number; fewer when a fold and all images would take too long, but at least half of it."""
        folds = self._material.folds
        images, all_images = len(folds.folds[0].training), len(folds.development)
        share = 1.0 if self._warm is None else EPOCHS_SHARE
        usual = pace.epochs(self._material.run.parameters, images, share=share)
        if self._material.run.parameters["epochs"] != "auto":
            return usual
        spare = SAFETY * allowance - self.preparation() - 2 * FIT_S
        affordable = int(spare / (self._epoch_s(images) + self._epoch_s(all_images)))
        return max(FEWEST_EPOCHS, min(usual, max(affordable, usual // 2)))
