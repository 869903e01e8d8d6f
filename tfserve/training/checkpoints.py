"""What is kept between two attempts at a training: the last states of the model, and its best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.tensors import Array
from tfserve.training import checkpoint_files
from tfserve.training.writing import written_aside

KEPT = 2
"""So many checkpoints are kept: when the last is damaged, the one before is taken."""


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
    """In one folder, for one training, which its fingerprint tells from others."""

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
        """Puts the newest whole checkpoint into a compiled model, and its state; a fresh state when there is none."""
        for file in checkpoint_files.newest_first(self.folder):
            try:
                return self._restore(file, model)
            except _OtherTraining:
                continue
            except Exception as error:  # whatever a damaged file makes numpy raise
                self.damaged.append(f"{file.name} is damaged ({type(error).__name__})")
        return self.fresh()

    def restore_best(self, model: Any, state: State) -> None:
        """Puts the best epoch's numbers into the model."""
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
        np.savez(opened, state=np.frombuffer(msgspec.json.encode(_finite(state)), np.uint8), **arrays)  # type: ignore[arg-type]


def _finite(state: State) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(state)
    return {name: value for name, value in told.items() if value != float("inf")}


def _state(content: Any) -> State:
    return msgspec.json.decode(content["state"].tobytes(), type=State)


def _arrays(variables: Sequence[Any], name: str) -> dict[str, Array]:
    return {f"{name}_{place}": np.asarray(variable) for place, variable in enumerate(variables)}


def _assign(variables: Sequence[Any], content: Any, name: str) -> None:
    values = [content[f"{name}_{place}"] for place in range(len(variables))]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
