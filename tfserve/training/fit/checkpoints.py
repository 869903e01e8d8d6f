"""The checkpoints of a training: the last states of the model, and the best one, kept for another attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.atomic_files import written_aside
from tfserve.training.fit import checkpoint_files

KEPT = 2
"""Checkpoints kept. If the last one is damaged, the previous one is used."""


class State(msgspec.Struct, kw_only=True):
    """How far the epochs have come. `history` has a list for each metric, `ended_at` the time of each epoch's end."""

    fingerprint: str
    epochs: int
    epoch: int = 0
    best_epoch: int = 0
    best_value: float = float("inf")
    history: dict[str, list[float]] = msgspec.field(default_factory=dict)
    ended_at: list[float] = msgspec.field(default_factory=list)


class Checkpoints:
    """The checkpoints of one training in one folder, identified by the training's fingerprint."""

    def __init__(self, folder: Path, fingerprint: str, epochs: int) -> None:
        self.folder = folder
        self.damaged: list[str] = []
        self._fresh = State(fingerprint=fingerprint, epochs=epochs)

    def fresh(self) -> State:
        return msgspec.convert(msgspec.to_builtins(self._fresh), State)

    def clear(self) -> None:
        for file in [*self.folder.glob("*.npz"), *self.folder.glob(".*.writing")]:
            file.unlink(missing_ok=True)

    def restore(self, model: Any) -> State:
        """Loads the newest intact checkpoint into a compiled model, and returns its state, or a fresh one.

        Checkpoints of another training are removed then: theirs may have higher epochs, and the newest ones are kept.
        """
        has_others = False
        for file in checkpoint_files.newest_first(self.folder):
            try:
                return self._restore(file, model)
            except _OtherTraining:
                has_others = True
            except Exception as error:  # a damaged file can make numpy raise anything
                self.damaged.append(f"{file.name} is damaged ({type(error).__name__})")
        if has_others:
            self.clear()
        return self.fresh()

    def restore_best(self, model: Any, state: State) -> None:
        """Loads the weights of the best epoch into the model."""
        with np.load(self._best(state.best_epoch), allow_pickle=False) as content:
            _assign(model.variables, content, "model")

    def save(self, model: Any, state: State) -> None:
        """Keeps the state of the model and the optimizer, and the best model when that is this one."""
        arrays = _arrays(model.variables, "model")
        if state.best_epoch == state.epoch:
            _write(self._best(state.epoch), arrays, state)
        _write(
            checkpoint_files.path_of(self.folder, state.epoch),
            arrays | _arrays(model.optimizer.variables, "optimizer"),
            state,
        )
        self._forget_old()

    def _restore(self, file: Path, model: Any) -> State:
        with np.load(file, allow_pickle=False) as content:
            state = _state(content)
            if state.fingerprint != self._fresh.fingerprint:
                raise _OtherTraining
            if not self._best(state.best_epoch).is_file():
                raise FileNotFoundError(self._best(state.best_epoch))
            model.optimizer.build(model.trainable_variables)
            arrays = {name: content[name] for name in content.files}
        _assign(model.variables, arrays, "model")
        _assign(model.optimizer.variables, arrays, "optimizer")
        return state

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:06d}.npz"

    def _forget_old(self) -> None:
        files = checkpoint_files.newest_first(self.folder)
        needed = set(files[:KEPT])
        for file in files[:KEPT]:
            try:
                with np.load(file, allow_pickle=False) as content:
                    needed.add(self._best(_state(content).best_epoch))
            except Exception:  # noqa: S112 (a damaged one needs nothing)
                continue
        for file in self.folder.glob("*.npz"):
            if file not in needed:
                file.unlink(missing_ok=True)


class _OtherTraining(Exception):
    """The checkpoint belongs to other images or parameters."""


def _write(file: Path, arrays: Mapping[str, Array], state: State) -> None:
    with written_aside(file) as aside, aside.open("wb") as opened:
        np.savez(opened, state=np.frombuffer(encoded(state), np.uint8), **arrays)  # type: ignore[arg-type]


def encoded(state: State) -> bytes:
    """As JSON, which has no infinity: a best value that was never measured is left out."""
    values: dict[str, Any] = msgspec.to_builtins(state)
    return msgspec.json.encode({name: value for name, value in values.items() if value != float("inf")})


def _state(content: Any) -> State:
    return msgspec.json.decode(content["state"].tobytes(), type=State)


def _arrays(variables: Sequence[Any], name: str) -> dict[str, Array]:
    return {f"{name}_{index}": np.asarray(variable) for index, variable in enumerate(variables)}


def _assign(variables: Sequence[Any], content: Any, name: str) -> None:
    values = [content[f"{name}_{index}"] for index in range(len(variables))]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
