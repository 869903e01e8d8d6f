"""Models that keep values from one call to the next: variables that they assign, caches, counters, queues.

All callers share such a state. So requests are never batched, repeated or moved to another runtime, and the effects
of the server's own computations are undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from tfserve.errors import Unsupported
from tfserve.runtimes.interface import Forwarding, Runtime
from tfserve.tensors.specs import Array

STATEFUL = "stateful: callers share its state"
STATELESS = "stateful, but its state is reset before each call (stateless: true)"
NEVER_MOVED = "it is stateful, and a copy in another runtime would have a separate state"


@runtime_checkable
class HoldsState(Protocol):
    """A runtime that knows whether its model is stateful. The models of other runtimes are not."""

    #: whether any signature is
    is_stateful: bool
    #: whether `reset_state` works
    can_reset_state: bool

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:
        """Whether computing these targets may change what is computed later."""

    def reset_state(self) -> None:
        """Resets the state to that after loading."""


def is_stateful(runtime: Runtime) -> bool:
    return isinstance(runtime, HoldsState) and runtime.is_stateful


def changes_state(runtime: Runtime, outputs: Sequence[str], signature: str) -> bool:
    return isinstance(runtime, HoldsState) and runtime.changes_state(outputs, signature)


def reset(runtime: Runtime) -> None:
    """Resets the state, if the model has one."""
    if isinstance(runtime, HoldsState) and runtime.is_stateful and runtime.can_reset_state:
        runtime.reset_state()


def may_compute(runtime: Runtime) -> bool:
    """Whether the effects of the server's own computations can be undone."""
    return not isinstance(runtime, HoldsState) or not runtime.is_stateful or runtime.can_reset_state


def remarks(runtime: Runtime) -> list[str]:
    """Remarks about the state for users."""
    if not is_stateful(runtime):
        return []
    return [STATELESS if isinstance(runtime, Stateless) else STATEFUL]


def stateless(runtime: Runtime) -> Runtime:
    """The same model with its state reset before each call. Raises `Unsupported` when that is not possible."""
    if not isinstance(runtime, HoldsState) or not runtime.is_stateful:
        return runtime
    if not runtime.can_reset_state:
        raise Unsupported(
            "stateless: true needs a state that can be reset, but this model has state that can't be read and"
            " restored, such as a queue. Deploy it without stateless."
        )
    return Stateless(runtime, runtime)


class Stateless(Forwarding):
    """A stateful model whose state is reset before every call."""

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
