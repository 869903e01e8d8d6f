"""The interface of all runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from tfserve.errors import Invalid, nearest
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature, TensorSpec


class ResolvedName(msgspec.Struct, frozen=True):
    """What a name refers to, with the runtime's own name for it. An operation has no spec and returns no value."""

    name: str
    spec: TensorSpec | None


class OnlyTensorFlowKnows(Invalid):
    """A name that means nothing to this runtime, but may to TensorFlow: a tensor inside, a collection, a signature."""


class Runtime(Protocol):
    """A loaded model. Every error for callers is a `TFserveError`.

    `runtime` is the name of the library as in `tfserve.runtimes`. The caller must not run two calls at a time, unless
    `tfserve.runtimes.concurrent` says that it may.
    A runtime may also have `remarks: list[str]` (see `remarks_of`), `release_memory()` (see there), and know of its
    model's state (`tfserve.runtimes.state`).
    """

    format: str
    runtime: str
    signatures: dict[str, Signature]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        """The outputs, in order; None for an operation.

        Names are those of the signature, or of targets. Shapes and types of the inputs must be right.
        """

    def feeds(self, name: str, signature: str) -> Sequence[ResolvedName]:
        """The inputs that `name` feeds. Raises `Invalid`, which lists the available names."""

    def fetches(self, name: str, signature: str) -> Sequence[ResolvedName]:
        """The outputs that `name` fetches. Raises `Invalid`, which lists the available names."""

    def missing(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> list[str]:
        """The inputs that must be given, in addition to `inputs`, to compute the targets `outputs`."""

    def close(self) -> None:
        """Releases its resources."""


class Forwarding:
    """A runtime that delegates to another one; a subclass changes how it is run."""

    def __init__(self, runtime: Runtime) -> None:
        self.format: str = runtime.format
        self.runtime: str = runtime.runtime
        self.signatures: dict[str, Signature] = runtime.signatures
        self.remarks = remarks_of(runtime)
        self._runtime = runtime

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        return self._runtime.run(inputs, outputs, signature)

    def feeds(self, name: str, signature: str) -> Sequence[ResolvedName]:
        return self._runtime.feeds(name, signature)

    def fetches(self, name: str, signature: str) -> Sequence[ResolvedName]:
        return self._runtime.fetches(name, signature)

    def missing(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> list[str]:
        return self._runtime.missing(inputs, outputs, signature)

    def why_mixed(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> str:
        """See `tfserve.runtimes.row_walk`."""
        follow = getattr(self._runtime, "why_mixed", None)
        return "" if follow is None else str(follow(inputs, outputs, signature))

    def release_memory(self) -> None:
        release_memory(self._runtime)

    def close(self) -> None:
        self._runtime.close()


@runtime_checkable
class Preparing(Protocol):
    """A runtime that preprocesses some inputs, which other threads can do while the model runs."""

    #: internal signatures of preprocessed inputs
    inner: dict[str, Signature]
    #: the signature whose rows are computed for each of them
    computed_by: dict[str, str]

    def prepares(self, signature: str) -> str | None:
        """The name in `inner` that takes what is made of the inputs of `signature`; None when they are ready."""

    def prepare(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of the inner signature. Raises `Invalid`. Any thread may call it at any time."""

    def model_inputs(self, made: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of the signature that computes, from those of the inner one."""


def remarks_of(runtime: Runtime) -> list[str]:
    """Remarks for users of the model, from the runtime's optional `remarks`."""
    return list(getattr(runtime, "remarks", ()))


def release_memory(runtime: Runtime) -> None:
    """Releases memory that the next small computation does not need; the model must not run meanwhile."""
    release = getattr(runtime, "release_memory", None)
    if release is not None:
        release()


def add_remark(runtime: Runtime, sentence: str) -> None:
    """Adds a remark for users of the model."""
    vars(runtime)["remarks"] = [*remarks_of(runtime), sentence]


def find_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    """The signature. Raises `Invalid`; but a model without the default signature has an empty one."""
    found = signatures.get(name)
    if found is None and name == DEFAULT_SIGNATURE:
        return Signature((), ())
    if found is None:
        raise Invalid(
            f"The model has no signature {name!r}{nearest(name, signatures)}. Available: {listed(signatures)}."
        )
    return found


def listed(names: Sequence[str] | Mapping[str, object], limit: int = 20) -> str:
    """Some of the names, for a message."""
    words = ", ".join(repr(name) for name in list(names)[:limit]) or "none"
    return words if len(names) <= limit else f"{words} and {len(names) - limit} more"
