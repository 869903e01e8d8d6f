"""The epochs of a training: Keras' own `fit`, watched.

After each epoch a line is printed, progress is reported and a checkpoint is kept. The training ends with its schedule.
It ends earlier only when the loss on the selection images has not improved for `patience` epochs, which are at least
300 optimiser steps, and a third of the schedule is over. The model keeps the numbers of the best epoch when there are
enough selection images to know it or when the training ended early, else those of the end of the schedule.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import keras

from tfserve.errors import Invalid
from tfserve.training.fit.checkpoints import Checkpoints, State
from tfserve.training.fit.timing import TimedStage

FIT_S = 4.0
"""Seconds until the first step of a training."""
TRAINED_MACS_PER_S = 2.5e10
"""Multiplications and additions of the forward pass, in training on two ordinary cores."""
MONITORED = "val_loss"
MAX_HISTORY = 100
"""Number of recent epochs in the metrics that are sent with progress."""
MIN_PATIENCE_STEPS = 300
MIN_SHARE = 1 / 3
ENOUGH_TO_SELECT = 100
"""With fewer selection images the best epoch is random, and the end of the schedule is better."""


def fit(
    model: Any, training: Any, selection: Any, *, state: State, checkpoints: Checkpoints, stage: TimedStage,
    patience: int, steps: int, selected_on: int, class_weight: dict[int, float] | None = None, name: str = "",
) -> None:  # fmt: skip
    """Trains from `state` to the end, `steps` optimiser steps an epoch. Raises `Invalid` for a NaN loss.

    `selection` is a data set that is measured after each epoch, or None. `selected_on` is how many of its images may
    decide when to stop: 0 when they only show how the training goes. `name` comes first in the messages.
    """
    patient = Patience.of(patience, steps, state.epochs) if selected_on else None
    watch = Watch(state, checkpoints, stage, patient, name, enough=enough_epochs(steps, state.epochs))
    if not watch.is_over:
        model.fit(
            training, validation_data=selection, epochs=state.epochs, initial_epoch=state.epoch,
            shuffle=False, verbose=0, callbacks=[watch], class_weight=class_weight,
        )  # fmt: skip
    name = name or stage.name
    if watch.ends_early and state.epoch < state.epochs:
        print(f"{name}: ended early, after {state.epoch} of {state.epochs} epochs", flush=True)
    elif stage.is_over and state.epoch < state.epochs:
        print(f"{name}: stopped after {state.epoch} of {state.epochs} epochs to stay within the budget", flush=True)
    if selected_on and (selected_on >= ENOUGH_TO_SELECT or state.epoch < state.epochs):
        checkpoints.restore_best(model, state)


def enough_epochs(steps: int, scheduled: int) -> int:
    """Epochs after which something has been learnt, so that a training may be ended early."""
    return min(math.ceil(scheduled * MIN_SHARE), math.ceil(MIN_PATIENCE_STEPS / max(1, steps)))


@dataclass(frozen=True)
class Patience:
    """Epochs without a better loss after which a training stops, and the first epoch at which it may."""

    epochs: int
    first: int

    @classmethod
    def of(cls, epochs: int, steps: int, scheduled: int) -> Patience:
        least = math.ceil(MIN_PATIENCE_STEPS / max(1, steps))
        return cls(max(epochs, least), math.ceil(scheduled * MIN_SHARE))

    def is_over(self, epoch: int, best_epoch: int) -> bool:
        return epoch >= self.first and epoch - best_epoch >= self.epochs


def schedule(rate: float, epochs: int, steps: int) -> Any:
    """A short rise to `rate`, then down along a cosine to almost nothing at the last step."""
    total = max(1, epochs * steps)
    rise = min(total // 10, 2 * steps)
    return keras.optimizers.schedules.CosineDecay(
        rate * 0.1, total - rise, alpha=0.01, warmup_target=rate, warmup_steps=rise
    )


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports progress and keeps checkpoints at the end of each step and epoch."""

    def __init__(
        self,
        state: State,
        checkpoints: Checkpoints,
        stage: TimedStage,
        patience: Patience | None,
        name: str,
        *,
        enough: int,
    ) -> None:
        super().__init__()
        self._enough = enough
        self._state = state
        self._checkpoints = checkpoints
        self._stage = stage
        self._patience = patience
        self._name = f"{name}: " if name else ""

    @property
    def is_over(self) -> bool:
        state = self._state
        stopped = self._patience is not None and self._patience.is_over(state.epoch, state.best_epoch)
        return state.epoch >= state.epochs or stopped or self.ends_early

    @property
    def ends_early(self) -> bool:
        """On request, but not before something has been learnt."""
        return self._stage.ends_early and self._state.epoch >= self._enough

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        self._check(loss, "loss")
        steps = self.params.get("steps")
        done = self._state.epoch + (min(1.0, (batch + 1) / steps) if steps else 0.0)
        message = f"{self._name}epoch {self._state.epoch + 1} of {self._state.epochs}: loss {loss:.4g}"
        self._stage.mention(done / self._state.epochs, message)
        if self._stage.is_over:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        if MONITORED in values:
            self._check(values[MONITORED], "loss on the selection images")
        self._record(epoch, values)
        self._checkpoints.save(self.model, self._state)
        self._report(values)
        if self.is_over or self._stage.is_over:
            self.model.stop_training = True

    def _record(self, epoch: int, values: dict[str, float]) -> None:
        state = self._state
        state.epoch = epoch + 1
        state.ended_at.append(time.time())
        for name, value in values.items():
            state.history.setdefault(name, []).append(value)
        monitored = values.get(MONITORED, values["loss"])
        if monitored < state.best_value:
            state.best_value, state.best_epoch = monitored, state.epoch

    def _report(self, values: dict[str, float]) -> None:
        state = self._state
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
        line = f"{self._name}epoch {state.epoch} of {state.epochs}: {figures}"
        print(line, flush=True)
        history = {name: [round(each, 6) for each in series[-MAX_HISTORY:]] for name, series in state.history.items()}
        metrics = {
            **values,
            "epoch": state.epoch,
            "epochs": state.epochs,
            "best_epoch": state.best_epoch,
            "history": history,
        }
        self._stage.report(state.epoch / state.epochs, line, metrics=metrics)

    def _check(self, loss: float, what: str) -> None:
        if math.isfinite(loss):
            return
        state = self._state
        kept = f"The best model, from epoch {state.best_epoch}, is kept." if state.best_epoch else "No epoch ended."
        raise Invalid(
            f"The {what} became {loss} in epoch {state.epoch + 1} of {state.epochs}, so the training was stopped."
            f" {kept} Try a smaller learning_rate (a tenth), and look for images that are a single colour.",
            epoch=state.epoch + 1, best_epoch=state.best_epoch,
        )  # fmt: skip
