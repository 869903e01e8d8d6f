"""A candidate: the last blocks of EfficientNet-Lite0 learn along with the head, with a small learning rate.

The first blocks stay frozen, so what they make of each image, and of randomly changed copies of it, is computed once
and kept in files; all folds learn from the same files. The head begins as the linear head of the same images, so the
training starts with good predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.fit import backbones, batches, linear_head
from tfserve.training.fit.augment import Augment
from tfserve.training.fit.batches import ImageSource
from tfserve.training.fit.candidates import FoldAnswers, preparation_of
from tfserve.training.fit.checkpoints import State
from tfserve.training.fit.classification_material import ClassificationMaterial
from tfserve.training.fit.delivery import Delivered
from tfserve.training.fit.features import Changed, Features, JoinedArrays
from tfserve.training.fit.fitting import FIT_S
from tfserve.training.fit.folds import Fold
from tfserve.training.fit.linear_heads import image_s
from tfserve.training.fit.network_training import PREDICTED_AT_ONCE, NetworkTraining
from tfserve.training.fit.pretrained import BackboneChoice

LAST_FROZEN = "block12_sum"
"""What follows has two thirds of the weights, but takes an eighth of the time."""
COPIES = 1
"""Augmented copies of each image, in addition to the image itself."""
PASSES = 6
"""How often each image or copy is used in training."""
RATE = 3e-4
PENALTY = 0.01
"""Penalty of the initial linear head: a weak one, because a strong one makes all predictions uncertain."""
TRAINED_IMAGE_S = 0.010
"""Seconds of two ordinary cores for a step with an image of 224x224, from the frozen blocks on."""
FEW_IMAGES = 100
SIZES = (224, 192, 160, 128)


@dataclass
class _Network:
    """`features` is the whole network; `trainable` has the same layers, from the frozen ones to the logits."""

    features: Any
    head: Any
    trainable: Any


class FineTuned:
    """Sees smaller images than the linear head where the time does not allow more."""

    is_cheap = False

    def __init__(
        self, material: ClassificationMaterial, choice: BackboneChoice, largest: int, allowance: float
    ) -> None:
        self.name = f"fine-tuned {choice.name}"
        self._material, self._choice = material, choice
        sizes = [side for side in SIZES if side <= largest] or [SIZES[-1]]
        self.size = next((each for each in map(_square, sizes) if self._needed(each) <= allowance), _square(sizes[-1]))

    def cost(self, images: int) -> float:
        return _training_s(images, self.size)

    def preparation(self) -> float:
        return len(self._material.labels) * (COPIES + 1) * image_s(self.size)

    def unsuitable(self) -> str | None:
        count = len(self._material.folds.development)
        if count < FEW_IMAGES:
            return f"{count} images are too few for fine-tuning"
        return None

    def evaluate(self, number: int, fold: Fold) -> FoldAnswers:
        network, _ = self._fit(f"fold {number + 1}", fold.training, watched=fold.held_out)
        logits = self._predict(network, fold.held_out)
        return self._material.outcome(fold, linear_head.softmax(logits)[np.newaxis])

    def deliver(self, _: int, indices: Array) -> Delivered:
        """Trained from the start on all of `indices`."""
        network, state = self._fit("all images", indices, watched=indices[:0])
        classifier = backbones.with_probabilities(network.features, network.head)
        return Delivered(classifier, self.size, self._choice.name, state)

    # --- training

    def _fit(self, stage: str, training: Array, *, watched: Array) -> tuple[_Network, State]:
        maps, count = self._maps, len(self._material.labels)
        keras.utils.set_random_seed(self._material.run.parameters["seed"])
        network = self._network(training)
        changed = np.concatenate([training + count * copy for copy in range(COPIES + 1)])
        rate = self._material.run.rate(RATE, continued=False)
        epochs = PASSES // (COPIES + 1)
        network_training = NetworkTraining(self._material, self.name, self.size, maps, rate, epochs)
        state = network_training.fit(network.trainable, stage, changed, selection=watched[:0], watched=watched)
        return network, state

    def _network(self, training: Array) -> _Network:
        """The pretrained network with the head that logistic regression finds for the images of `training`."""
        material = self._material
        features = backbones.features(self._choice, self.size, material.run.warm)
        tail = keras.Model(features.get_layer(LAST_FROZEN).output, features.output)
        rows = np.asarray(tail.predict(self._plain(training), verbose=0))
        start = linear_head.heads(
            rows, material.labels[training], material.classes, weights=material.image_weights(training),
            penalties=[each for each in linear_head.PENALTIES if each >= PENALTY],
            known=backbones.known_head(self._choice),
        )[-1]  # fmt: skip
        head = backbones.head(rows.shape[1], material.classes)
        head.get_layer("logits").set_weights([start.kernel, start.bias])
        tail.trainable = True
        return _Network(features, head, keras.Sequential([tail, head]))

    def _predict(self, network: _Network, indices: Array) -> Array:
        """(images, classes) logits."""
        return np.asarray(network.trainable.predict(self._plain(indices), verbose=0))

    def _plain(self, indices: Array) -> Any:
        return batches.plain(self._maps, indices, PREDICTED_AT_ONCE, self._material.run.threads)

    @cached_property
    def _maps(self) -> ImageSource:
        """The output of the frozen blocks for all images, then for their copies."""
        run, labels = self._material.run, self._material.labels
        network = backbones.features(self._choice, self.size, run.warm)
        frozen = keras.Model(network.input, network.get_layer(LAST_FROZEN).output)
        source, augment = self._material.source(self.size).inputs, Augment.from_parameters(run.parameters)
        parts = []
        message = f"Computing the first blocks for {len(labels)} images and {COPIES} augmented copies of each"
        with run.clock.stage(preparation_of(self), message) as stage:
            for copy in range(COPIES + 1):
                images = Changed(source, augment, run.parameters["seed"] + copy) if copy else source
                file = run.work / f"maps-{run.fingerprint[:16]}-{self._choice.name}-{self.size[0]}-{copy}.npy"

                def report(share: float, done: int = copy) -> None:
                    stage.mention((done + share) / (COPIES + 1), message)

                parts.append(Features.computed(file, frozen, images, len(labels), report, np.float16))
        return ImageSource(JoinedArrays(parts, len(labels)), batches.labels_of(labels.tolist() * (COPIES + 1)))

    def _needed(self, size: tuple[int, int]) -> float:
        """Seconds for a fold, and for all images."""
        count = len(self._material.labels)
        return count * (COPIES + 1) * image_s(size) + 2 * _training_s(count, size)


def _training_s(images: int, size: tuple[int, int]) -> float:
    return FIT_S + PASSES * images * TRAINED_IMAGE_S * size[0] * size[1] / 224**2


def _square(side: int) -> tuple[int, int]:
    return side, side
