"""Several computations of one model at a time.

A runtime may let threads call it at the same time, so that they share its pool of threads. And it may make a copy of
the model that gives each computation its share of the cores, which avoids the cost of splitting every operation between
threads. Models that keep state are never computed concurrently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Protocol, runtime_checkable

from tfserve.errors import Unsupported
from tfserve.runtimes import machine, state
from tfserve.runtimes.interface import Forwarding, Runtime, release_memory
from tfserve.tensors.specs import Array


@runtime_checkable
class Concurrent(Protocol):
    """A runtime that knows how its model can be computed concurrently. Others compute one request at a time."""

    #: whether several threads may call `run` at the same time
    is_shareable: bool

    def narrowed(self, computations: int) -> Runtime:
        """A copy of the model, whose `run` this number of threads may call, each with its share of the cores.

        Any thread may call it while others run the model; it takes time and memory. Raises `TFserveError` if it can't
        be made, `Unsupported` if never.
        """


def is_shareable(runtime: Runtime) -> bool:
    return isinstance(runtime, Concurrent) and runtime.is_shareable and not state.is_stateful(runtime)


def narrowed(runtime: Runtime, computations: int) -> Runtime:
    """The copy of the model. Raises `TFserveError`, `Unsupported` if its runtime makes none."""
    if not isinstance(runtime, Concurrent) or state.is_stateful(runtime):
        raise Unsupported("This model is computed one request at a time.")
    return runtime.narrowed(computations)


def share(computations: int) -> int:
    """The number of threads of each computation."""
    return max(1, machine.cores() // computations)


class ModelCopies(Forwarding):
    """Copies of a model that can each compute one request at a time."""

    is_shareable = True

    def __init__(self, copies: Sequence[Runtime]) -> None:
        super().__init__(copies[0])
        self._copies = copies
        self._free: SimpleQueue[Runtime] = SimpleQueue()
        for each in copies:
            self._free.put(each)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        one = self._free.get()
        try:
            return one.run(inputs, outputs, signature)
        finally:
            self._free.put(one)

    def release_memory(self) -> None:
        for each in self._copies:
            release_memory(each)

    def close(self) -> None:
        for each in self._copies:
            each.close()
