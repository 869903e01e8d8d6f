"""The epochs of a training: Keras' own `fit`, watched.

After each epoch a line is printed, progress is told and a checkpoint is kept. The best epoch is the one with the
smallest loss on the images put aside for that; the model has its numbers in the end.
"""

from __future__ import annotations

import math
import time
from typing import Any

import keras

from tfserve.errors import Invalid
from tfserve.training.checkpoints import Checkpoints, State
from tfserve.training.progress import FITTED, PREPARED, Reporter

MONITORED = "val_loss"
MAX_HISTORY = 100
"""So many of the last epochs are in the metrics that go along with progress."""
EXPORT_S = 15.0
"""A guess of what comes after the epochs, for the time left."""


def fit(
    model: Any, training: Any, selection: Any, *, state: State, checkpoints: Checkpoints, reporter: Reporter,
    patience: int, class_weight: dict[int, float] | None = None,
) -> None:  # fmt: skip
    """Trains from `state` to the end, and leaves the best numbers in the model. Raises `Invalid` for a NaN loss."""
    watch = Watch(state, checkpoints, reporter, patience)
    if not watch.is_over:
        model.fit(
            training, validation_data=selection, epochs=state.epochs, initial_epoch=state.epoch,
            shuffle=False, verbose=0, callbacks=[watch], class_weight=class_weight,
        )  # fmt: skip
    checkpoints.restore_best(model, state)


def schedule(rate: float, epochs: int, steps: int) -> Any:
    """A short rise to `rate`, then down along a cosine to almost nothing at the last step."""
    total = max(1, epochs * steps)
    rise = min(total // 10, 2 * steps)
    return keras.optimizers.schedules.CosineDecay(
        rate * 0.1, total - rise, alpha=0.01, warmup_target=rate, warmup_steps=rise
    )


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """What is done besides training, at the end of each step and each epoch."""

    def __init__(self, state: State, checkpoints: Checkpoints, reporter: Reporter, patience: int) -> None:
        super().__init__()
        self._state = state
        self._checkpoints = checkpoints
        self._reporter = reporter
        self._patience = patience
        self._first: tuple[float, float] | None = None

    @property
    def is_over(self) -> bool:
        state = self._state
        return state.epoch >= state.epochs or state.epoch - state.best_epoch >= self._patience

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        self._check(loss, "loss")
        steps = self.params.get("steps")
        done = self._state.epoch + (min(1.0, (batch + 1) / steps) if steps else 0.0)
        time_left = self._time_left(done)
        self._reporter.mention(
            self._progress(done), f"epoch {self._state.epoch + 1} of {self._state.epochs}: loss {loss:.4g}",
            time_left,
        )  # fmt: skip

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._check(values[MONITORED], "loss on the images put aside")
        self._record(epoch, values)
        self._checkpoints.save(self.model, self._state)
        self._tell(values)
        if self.is_over:
            self.model.stop_training = True

    def _record(self, epoch: int, values: dict[str, float]) -> None:
        state = self._state
        state.epoch = epoch + 1
        state.ended_at.append(time.time())
        for name, value in values.items():
            state.history.setdefault(name, []).append(value)
        if values[MONITORED] < state.best_value:
            state.best_value, state.best_epoch = values[MONITORED], state.epoch

    def _tell(self, values: dict[str, float]) -> None:
        state = self._state
        told = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
        line = f"epoch {state.epoch} of {state.epochs}: {told}"
        print(line, flush=True)
        history = {name: [round(each, 6) for each in series[-MAX_HISTORY:]] for name, series in state.history.items()}
        metrics = {
            **values,
            "epoch": state.epoch,
            "epochs": state.epochs,
            "best_epoch": state.best_epoch,
            "history": history,
        }
        self._reporter.say(state.progress, line, eta_s=self._time_left(state.epoch), metrics=metrics)

    def _check(self, loss: float, what: str) -> None:
        if math.isfinite(loss):
            return
        state = self._state
        kept = f"The best model, of epoch {state.best_epoch}, is kept." if state.best_epoch else "No epoch had ended."
        raise Invalid(
            f"The {what} became {loss} in epoch {state.epoch + 1} of {state.epochs}, so the training was stopped."
            f" {kept} Try a smaller learning_rate (a tenth), and look for images that are all of one colour.",
            epoch=state.epoch + 1, best_epoch=state.best_epoch,
        )  # fmt: skip

    def _progress(self, epochs_done: float) -> float:
        return PREPARED + (FITTED - PREPARED) * epochs_done / self._state.epochs

    def _time_left(self, epochs_done: float) -> float | None:
        """Seconds; the very first step, which builds everything, is not counted."""
        now = time.monotonic()
        if self._first is None:
            self._first = epochs_done, now
        first_done, first_at = self._first
        if epochs_done <= first_done:
            return None
        return (now - first_at) / (epochs_done - first_done) * (self._state.epochs - epochs_done) + EXPORT_S
