"""The candidates of a classification: linear heads on frozen features, and a compact network from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from tfserve.tensors import Array
from tfserve.training import backbones, datasets, images, linear_head, pace
from tfserve.training.augment import Augment
from tfserve.training.candidates import Outcome, preparation_of, slug, stage_name
from tfserve.training.checkpoints import State
from tfserve.training.datasets import Source
from tfserve.training.earlier_models import COMPACT
from tfserve.training.features import Changed, Features
from tfserve.training.fitting import fit, schedule
from tfserve.training.folds import Fold, Folds
from tfserve.training.known_networks import KNOWN, Choice
from tfserve.training.linear_head import Head
from tfserve.training.project_folders import KERAS_FILE
from tfserve.training.run import Run, resume
from tfserve.training.sizes import network_size
from tfserve.training.splitting import aside
from tfserve.training.store import Store
from tfserve.training.timing import Stage
from tfserve.training.warm_start import EPOCHS_SHARE
from tfserve.training.writing import written_aside

LARGEST_COMPACT = 128
COMPACT_RATE = 3e-3
UNBALANCED = 1.5
"""Classes count differently when the largest has so many times the images of the smallest."""
IMAGE_S = 0.02
"""Seconds that two ordinary cores take for the features of an image of 224x224."""
BUILD_S = 3.0
FIT_S = 4.0
"""Seconds until the first step of a training from scratch."""
TRAINED_MACS_PER_S = 2.5e10
"""Multiplications and additions of the forward pass, in training on two ordinary cores."""
FEATURES_SHARE = 0.3
"""Of the allowance, at most this share goes to computing features, else smaller images are used."""
SMALLEST_KNOWN = 160
"""Known networks recognise little in small images, so these are enlarged."""
COPIES = 2
FEW_PER_CLASS, FEW_IMAGES = 15, 150
FEWEST_EPOCHS = 3


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


class LinearHead:
    """Logistic regression on the features of a known network, which are computed once."""

    is_cheap = True

    def __init__(self, material: Material, choice: Choice, allowance: float) -> None:
        self.name = f"linear head on {choice.name}"
        self._material, self._choice = material, choice
        self.size = self._affordable_size(allowance)
        self.network: Any = None
        prior = material.prior(choice)
        self._priors = [None] if prior is None else [None, prior]
        self._features: Features | None = None

    def cost(self, images: int) -> float:
        return 0.3 + 2e-9 * images * 1280 * self._material.classes * 100

    def preparation(self) -> float:
        return BUILD_S + len(self._material.labels) * _image_s(self.size)

    def unsuitable(self) -> str | None:
        return None

    def evaluate(self, number: int, fold: Fold) -> Outcome:
        rows = self.rows()
        with self._material.run.clock.stage(stage_name(self, number)):
            solved = [head for prior in self._priors for head in self._solve(fold.training, prior=prior)]
        held_out = rows.batch(fold.held_out)
        return self._material.outcome(fold, np.stack([head.probabilities(held_out) for head in solved]))

    def deliver(self, variant: int, places: Array) -> Delivered:
        """Solved for the chosen penalty on all of `places`."""
        rows = self.rows()
        prior, last = divmod(variant, len(linear_head.PENALTIES))
        with self._material.run.clock.stage(stage_name(self)):
            solved = self._solve(places, linear_head.PENALTIES[: last + 1], prior=self._priors[prior])[-1]
        head = backbones.head(rows.shape[0], self._material.classes)
        head.get_layer("logits").set_weights([solved.kernel, solved.bias])
        network = backbones.with_probabilities(self.network, head)
        return Delivered(network, self._material.source(self.size), self._choice.name)

    def _solve(
        self, places: Array, penalties: Sequence[float] = linear_head.PENALTIES, *, prior: Head | None = None
    ) -> list[Head]:
        material = self._material
        return linear_head.heads(
            self.rows().batch(places), material.labels[places], material.classes,
            weights=material.image_weights(places), penalties=penalties, prior=prior,
        )  # fmt: skip

    def rows(self) -> Features:
        """The features of all images; computes them when they are first asked for."""
        if self._features is None:
            run, count = self._material.run, len(self._material.labels)
            self.network = backbones.features(self._choice, self.size, run.warm)
            source = self._material.source(self.size)
            file = run.work / f"features-{run.fingerprint[:16]}-{self._choice.name}-{self.size[0]}.npy"
            message = f"computes the features of {count} images"
            with run.clock.stage(preparation_of(self), message) as stage:
                self._features = Features.computed(
                    file, self.network, source.inputs, count,
                    lambda share: stage.mention(share, f"{message}: {share:.0%}"),
                )  # fmt: skip
        return self._features

    def _affordable_size(self, allowance: float) -> tuple[int, int]:
        """The size of the images, from those that the network was trained for."""
        run, sizes = self._material.run, KNOWN[self._choice.name].sizes
        wanted = run.parameters["image_size"]
        side = max(network_size(run.findings.images, wanted, largest=max(sizes), multiple=1))
        side = min(sizes, key=lambda known: (known < side, known))
        if wanted == "auto":
            side, count = max(side, SMALLEST_KNOWN), len(self._material.labels)
            fitting = [each for each in sizes if count * _image_s((each, each)) <= FEATURES_SHARE * allowance]
            side = min(side, max(fitting, default=min(sizes)))
        return side, side


def known_network(run: Run) -> Choice | None:
    """The known network of the model that the training starts from, if it has one."""
    if run.warm is None or run.warm.earlier.backbone not in KNOWN:
        return None
    earlier = run.warm.earlier
    return Choice(earlier.backbone, f"with the weights of task {earlier.task_id}", earlier.folder / KERAS_FILE)


class AugmentedHead(LinearHead):
    """The same with randomly changed copies of the training images: for objects that are turned, moved or darker."""

    def __init__(self, material: Material, choice: Choice, allowance: float, plain: LinearHead) -> None:
        super().__init__(material, choice, allowance)
        self.name = f"{plain.name}, augmented"
        self._plain = plain
        self.size = plain.size
        self._copied: list[Features] = []

    def cost(self, images: int) -> float:
        return super().cost(images * (COPIES + 1))

    def preparation(self) -> float:
        return len(self._material.labels) * COPIES * _image_s(self.size) * 1.3

    def _solve(
        self, places: Array, penalties: Sequence[float] = linear_head.PENALTIES, *, prior: Head | None = None
    ) -> list[Head]:
        material, rows = self._material, [self.rows(), *self._copies()]
        return linear_head.heads(
            np.concatenate([each.batch(places) for each in rows]), np.tile(material.labels[places], len(rows)),
            material.classes, weights=np.tile(material.image_weights(places), len(rows)), penalties=penalties,
            prior=prior,
        )  # fmt: skip

    def rows(self) -> Features:
        rows = self._plain.rows()
        self.network = self._plain.network
        self._copies()
        return rows

    def _copies(self) -> list[Features]:
        """The features of each copy of all images."""
        if not self._copied:
            self._plain.rows()
            with self._material.run.clock.stage(preparation_of(self)) as stage:
                self._copied = [self._copy(number, stage) for number in range(COPIES)]
        return self._copied

    def _copy(self, number: int, stage: Stage) -> Features:
        run, message = self._material.run, f"computes the features of changed images, {number + 1} of {COPIES}"
        source, augment = self._material.source(self.size), Augment.from_parameters(run.parameters)
        file = run.work / f"features-{run.fingerprint[:16]}-{self._choice.name}-{self.size[0]}-copy{number}.npy"
        return Features.computed(
            file, self._plain.network, Changed(source.inputs, augment, run.parameters["seed"] + number),
            len(self._material.labels), lambda share: stage.mention((number + share) / COPIES, message),
        )  # fmt: skip


class Compact:
    """A small network trained from scratch on randomly changed images: for what photographs say nothing about."""

    is_cheap = False

    def __init__(self, material: Material, allowance: float) -> None:
        self.name = "compact network from scratch"
        self._material = material
        run = material.run
        self._warm = run.warm if run.warm is not None and run.warm.earlier.backbone == COMPACT else None
        self.size = network_size(
            run.findings.images, run.parameters["image_size"], largest=LARGEST_COMPACT, multiple=4
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
        chances = self._predict(backbones.with_probabilities(model), fold.held_out)
        return self._material.outcome(fold, chances[np.newaxis])

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
        return self._material.run.work / slug(f"compact fold {number + 1}") / "state.json"

    def _states(self) -> list[State]:
        """How the trainings on folds ended, also those of earlier attempts."""
        files = (self._state_file(number) for number in range(len(self._material.folds.folds)))
        return [msgspec.json.decode(file.read_bytes(), type=State) for file in files if file.is_file()]

    def _predict(self, network: Any, places: Array) -> Array:
        data = datasets.plain(self._material.source(self.size), places, 64, self._material.run.threads)
        return np.asarray(network.predict(data, verbose=0))

    def _fit(self, name: str, training: Array, selection: Array, *, watched: Array) -> tuple[Any, State]:
        run, source = self._material.run, self._material.source(self.size)
        chosen = run.parameters
        keras.utils.set_random_seed(chosen["seed"])
        model = backbones.compact(self.size, self._material.classes, grey=self._grey)
        if self._warm is not None:
            self._warm.fill(model)
        batch_size = min(pace.batch_size(chosen, len(training)), len(training))
        steps = max(1, len(training) // batch_size)
        rate = run.rate(COMPACT_RATE, continued=self._warm is not None)
        model.compile(
            optimizer=keras.optimizers.AdamW(schedule(rate, self._epochs, steps), weight_decay=1e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            jit_compile=False,
        )
        checkpoints = run.checkpoints(slug(f"compact {name}"), self._epochs)
        state = resume(run, model, checkpoints, f"{self.name}, {name}")
        data = datasets.shuffled(
            source, training, batch_size, run.threads, seed=chosen["seed"] + state.epoch,
            augment=Augment.from_parameters(chosen),
        )  # fmt: skip
        shown = selection if len(selection) else watched
        with run.clock.stage(f"{self.name}: {name}") as stage:
            fit(
                model, data, datasets.plain(source, shown, 64, run.threads) if len(shown) else None, state=state,
                checkpoints=checkpoints, stage=stage, patience=chosen["patience"], steps=steps,
                selected_on=len(selection), class_weight=self._material.class_weights(training),
                name=f"compact network, {name}",
            )  # fmt: skip
        return model, state

    def _epoch_s(self, images: float) -> float:
        batch_size = pace.batch_size(self._material.run.parameters, round(images))
        return images * self._macs / TRAINED_MACS_PER_S + max(1.0, images / batch_size) * 0.01 + 0.05

    def _affordable_epochs(self, allowance: float) -> int:
        """The usual number; fewer when two trainings would take longer than allowed, but not less than half of it."""
        images = len(self._material.folds.folds[0].training)
        share = 1.0 if self._warm is None else EPOCHS_SHARE
        usual = pace.epochs(self._material.run.parameters, images, share=share)
        if self._material.run.parameters["epochs"] != "auto":
            return usual
        affordable = int((allowance / 2 - FIT_S) / self._epoch_s(images))
        return max(FEWEST_EPOCHS, min(usual, max(affordable, usual // 2)))


def _image_s(size: tuple[int, int]) -> float:
    return IMAGE_S * size[0] * size[1] / 224**2
