"""How the network of a candidate is trained, on a fold or on all images: from the last checkpoint to the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from tfserve.tensors.specs import Array
from tfserve.training.fit import batches
from tfserve.training.fit.augment import Augment
from tfserve.training.fit.batches import ImageSource
from tfserve.training.fit.candidates import slug
from tfserve.training.fit.checkpoints import State
from tfserve.training.fit.classification_material import ClassificationMaterial
from tfserve.training.fit.fitting import fit, schedule
from tfserve.training.recipes import schedule_defaults
from tfserve.training.recipes.run import resume

PREDICTED_AT_ONCE = 64


@dataclass(frozen=True)
class NetworkTraining:
    """`name` is the candidate's, `size` that of its images. `rate` is the highest of the schedule."""

    material: ClassificationMaterial
    name: str
    size: tuple[int, int]
    source: ImageSource
    rate: float
    epochs: int
    augment: Augment | None = None

    def fit(self, model: Any, stage: str, training: Array, *, selection: Array, watched: Array) -> State:
        """Trains `model`, whose outputs are logits, on the images at `training`, and returns how that went.

        `selection` decides when to stop; when it is empty, `watched` only shows how the training goes.
        """
        run = self.material.run
        chosen = run.parameters
        batch_size = min(schedule_defaults.batch_size(chosen, len(training)), len(training))
        steps = max(1, len(training) // batch_size)
        self._compile(model, steps)
        checkpoints = run.checkpoints(slug(f"{self.name} {stage}"), self.epochs, self.size)
        state = resume(run, model, checkpoints, f"{self.name}, {stage}")
        data = batches.shuffled(
            self.source, training, batch_size, run.threads, seed=chosen["seed"] + state.epoch, augment=self.augment
        )
        shown = selection if len(selection) else watched
        weights = self.material.class_weights(training % len(self.material.labels))
        with run.clock.stage(f"{self.name}: {stage}") as under_way:
            fit(
                model, data, batches.plain(self.source, shown, PREDICTED_AT_ONCE, run.threads) if len(shown) else None,
                state=state, checkpoints=checkpoints, stage=under_way, patience=chosen["patience"], steps=steps,
                selected_on=len(selection), class_weight=weights,
                name=f"{self.name}, {stage}",
            )  # fmt: skip
        return state

    def _compile(self, model: Any, steps: int) -> None:
        model.compile(
            optimizer=keras.optimizers.AdamW(schedule(self.rate, self.epochs, steps), weight_decay=1e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            jit_compile=False,
        )
