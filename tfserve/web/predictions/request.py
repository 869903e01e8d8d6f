"""One prediction on its way: what a protocol wants of a model, who waits for the response, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tfserve.ipc import predictions
from tfserve.ipc.predictions import DEFAULT_URGENCY, Tensor
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature
from tfserve.web.http.bodies import ClientGone
from tfserve.web.http.offload import are_heavy, offloaded


class CallerGone(ClientGone):
    """The client has closed its connection, so nobody waits for the answer."""


class Caller:
    """The client that waits for a response. `on_gone` is called when it has closed the connection."""

    __slots__ = ("is_gone", "on_gone")

    def __init__(self) -> None:
        self.is_gone = False
        self.on_gone: Callable[[], object] | None = None

    def gone(self) -> None:
        self.is_gone = True
        if self.on_gone is not None:
            self.on_gone()


@dataclass(slots=True)
class Request:
    """What a protocol asks of a model.

    `inputs` are arrays that fit the signature, by its names (`Model.check_inputs` makes sure); `outputs` the wanted
    names in order, all of the signature when empty. `timeout_s` None is the server's own. A request that is not
    `pinned` to the version that it asked for follows the model to the version that takes its place.
    """

    inputs: Mapping[str, Array]
    signature: str = DEFAULT_SIGNATURE
    outputs: Sequence[str] = ()
    urgency: int = DEFAULT_URGENCY
    timeout_s: float | None = None
    protocol: str = "v1"
    caller: Caller | None = None
    pinned: bool = False


@dataclass(slots=True)
class Result:
    """The outputs by name, in the order that was asked for. Arrays are not to be written; strings are
    arrays of bytes.
    """

    outputs: dict[str, Array]
    version: int


def in_order(signature: Signature, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The inputs as the signature orders them, so that requests that name them differently can share a batch."""
    if len(inputs) < 2:
        return inputs
    known = {spec.name: inputs[spec.name] for spec in signature.inputs if spec.name in inputs}
    return known if len(known) == len(inputs) else inputs


def outputs_in_order(signature: Signature, wanted: Sequence[str]) -> tuple[str, ...]:
    """All outputs, or those that are wanted, as the signature orders them; what it does not know stays behind."""
    if not wanted:
        return tuple([spec.name for spec in signature.outputs])
    known = [spec.name for spec in signature.outputs if spec.name in wanted]
    return tuple(known) if len(known) == len(wanted) else tuple(wanted)


async def tensors(inputs: Mapping[str, Array]) -> tuple[Tensor, ...]:
    """The inputs as bytes; many strings are joined in a thread."""

    def made() -> tuple[Tensor, ...]:
        return tuple([predictions.to_tensor(array) for array in inputs.values()])

    return await offloaded(made) if are_heavy(inputs.values()) else made()


def rows(inputs: Mapping[str, Array]) -> int:
    for array in inputs.values():
        return int(array.shape[0]) if array.ndim else 1
    return 1
