"""A prediction request on its way to a model, the client that waits for it, and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec
from starlette.types import Scope

from tfserve.ipc import predictions
from tfserve.ipc.predictions import DEFAULT_URGENCY, Tensor
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature
from tfserve.web.http.bodies import ClientGone
from tfserve.web.http.connection import CONNECTION, HttpConnection


class CallerGone(ClientGone):
    """The client has closed its connection, so the response is not needed."""


class Caller(msgspec.Struct, eq=False):
    """The client that waits for a response. `on_gone` is called when it has closed the connection."""

    is_gone: bool = False
    on_gone: Callable[[], object] | None = None

    def gone(self) -> None:
        self.is_gone = True
        if self.on_gone is not None:
            self.on_gone()


@contextmanager
def caller_of(scope: Scope) -> Iterator[Caller]:
    """The client that sent an ASGI request, while its response is being made."""
    caller = Caller()
    connection: HttpConnection | None = scope.get(CONNECTION)
    if connection is not None:
        connection.on_lost = caller.gone
    try:
        yield caller
    finally:
        if connection is not None:
            connection.on_lost = None


class PredictionRequest(msgspec.Struct):
    """A prediction request.

    `inputs` are arrays that match the signature. `outputs` are the requested names in order; if empty, all outputs of
    the signature are returned. `timeout_s` None is the server's own limit. A request that is not `pinned` to a version
    follows the model to the version that replaces it.
    """

    inputs: Mapping[str, Array]
    signature: str = DEFAULT_SIGNATURE
    outputs: Sequence[str] = ()
    urgency: int = DEFAULT_URGENCY
    timeout_s: float | None = None
    protocol: str = "v1"
    caller: Caller | None = None
    pinned: bool = False


class Options(msgspec.Struct, frozen=True):
    """How to handle a request, from headers, metadata and path."""

    protocol: str
    urgency: int = DEFAULT_URGENCY
    timeout_s: float | None = None
    pinned: bool = False
    caller: Caller | None = None

    def request(self, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str] = ()) -> PredictionRequest:
        return PredictionRequest(
            inputs, signature, outputs, self.urgency, self.timeout_s, self.protocol, self.caller, self.pinned
        )


class Prepared(Protocol):
    """A request that has been read and checked, with what its protocol needs to write the response."""

    @property
    def request(self) -> PredictionRequest: ...


class PredictionResult(msgspec.Struct):
    """The outputs by name, in the requested order. The arrays are read-only; strings are arrays of bytes."""

    outputs: dict[str, Array]
    version: int


def in_order(signature: Signature, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The inputs in the order of the signature, so that requests in any order can share a batch."""
    if len(inputs) < 2:
        return inputs
    known = {spec.name: inputs[spec.name] for spec in signature.takes if spec.name in inputs}
    return known if len(known) == len(inputs) else inputs


def outputs_in_order(signature: Signature, requested: Sequence[str]) -> tuple[str, ...]:
    """All outputs, or the requested ones, in the order of the signature if it has all of them."""
    if not requested:
        return signature.output_names
    known = [spec.name for spec in signature.outputs if spec.name in requested]
    return tuple(known) if len(known) == len(requested) else tuple(requested)


def tensors(inputs: Mapping[str, Array]) -> tuple[Tensor, ...]:
    """The inputs as bytes. Takes long for many strings."""
    return tuple([predictions.to_tensor(array) for array in inputs.values()])


def rows(inputs: Sequence[Tensor]) -> int:
    """The batch size: the first dimension of the first input."""
    shape = inputs[0].shape if inputs else ()
    return shape[0] if shape else 1
