"""Models that keep values from one call to the next: variables that they assign, caches, counters, queues.

Callers share such a state. So requests are never computed together, twice, or by another runtime, and whatever the
server computes for itself is undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from tfserve.errors import Unsupported
from tfserve.runtimes.interface import Forwarding, Runtime
from tfserve.tensors import Array

STATEFUL = "stateful: callers share its state"
STATELESS = "stateful, but its state is reset before each call (stateless: true)"
NEVER_MOVED = "it is stateful: a copy in another runtime would have a state of its own"


@runtime_checkable
class HoldsState(Protocol):
    """A runtime that can tell whether its model is stateful. Others have none that are."""

    #: whether any signature is
    is_stateful: bool
    #: whether `reset_state` works
    can_reset_state: bool

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:
        """Whether computing these targets may change what is computed later."""

    def reset_state(self) -> None:
        """Makes the state what it was when the model was loaded."""


def is_stateful(runtime: Runtime) -> bool:
    return isinstance(runtime, HoldsState) and runtime.is_stateful


def changes_state(runtime: Runtime, outputs: Sequence[str], signature: str) -> bool:
    return isinstance(runtime, HoldsState) and runtime.changes_state(outputs, signature)


def reset(runtime: Runtime) -> None:
    """Undoes what was computed so far, if that left anything."""
    if isinstance(runtime, HoldsState) and runtime.is_stateful and runtime.can_reset_state:
        runtime.reset_state()


def may_compute(runtime: Runtime) -> bool:
    """Whether what the server computes for itself can be undone."""
    return not isinstance(runtime, HoldsState) or not runtime.is_stateful or runtime.can_reset_state


def remarks(runtime: Runtime) -> list[str]:
    """What callers must know of the state, if there is any."""
    if not is_stateful(runtime):
        return []
    return [STATELESS if isinstance(runtime, Stateless) else STATEFUL]


def stateless(runtime: Runtime) -> Runtime:
    """The same model with its state reset before each call. Raises `Unsupported` when that is not possible."""
    if not isinstance(runtime, HoldsState) or not runtime.is_stateful:
        return runtime
    if not runtime.can_reset_state:
        raise Unsupported(
            "stateless: true needs a state that can be reset; this model keeps something that can't be read and"
            " written back, such as a queue. Deploy it without stateless."
        )
    return Stateless(runtime, runtime)


class Stateless(Forwarding):
    """A stateful model of which every call finds the state as it was when the model was loaded."""

    is_stateful = can_reset_state = True

    def __init__(self, runtime: Runtime, state: HoldsState) -> None:
        super().__init__(runtime)
        self._state = state

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        self._state.reset_state()
        return super().run(inputs, outputs, signature)

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:
        return self._state.changes_state(outputs, signature)

    def reset_state(self) -> None:
        self._state.reset_state()
