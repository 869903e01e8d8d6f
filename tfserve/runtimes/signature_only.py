"""Common code of the runtimes that know only a model's signatures: all except TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from tfserve.errors import Invalid, nearest
from tfserve.runtimes import known_names
from tfserve.runtimes.interface import OnlyTensorFlowKnows, ResolvedName, listed
from tfserve.runtimes.known_names import KnownNames
from tfserve.tensors.specs import Signature, TensorSpec


class SignatureOnly:
    """Only names of a signature's inputs and outputs can be fed and fetched.

    When `was_converted`, TensorFlow can still answer other requests, such as for an output that needs only
    some of the inputs.
    """

    def __init__(self, kind: str, signatures: dict[str, Signature], *, was_converted: bool = False) -> None:
        self.format = kind
        self.signatures = signatures
        self._was_converted = was_converted
        #: the folder in which TensorFlow's names of a converted model are
        self.names_folder: Path | None = None
        self._inputs = {name: _targets(each.takes) for name, each in signatures.items()}
        self._outputs = {name: _targets(each.outputs) for name, each in signatures.items()}

    def feeds(self, name: str, signature: str) -> Sequence[ResolvedName]:
        """The input called `name`. Raises `OnlyTensorFlowKnows`, or `Invalid` if TensorFlow lacks it too."""
        return [self._find(name, self._inputs, signature, "input")]

    def fetches(self, name: str, signature: str) -> Sequence[ResolvedName]:
        """The output called `name`. Raises `OnlyTensorFlowKnows`, or `Invalid` if TensorFlow lacks it too."""
        return [self._find(name, self._outputs, signature, "output")]

    def missing(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> list[str]:
        """The inputs that are not given; all are needed, for any output. Raises `OnlyTensorFlowKnows`."""
        needed = self.signatures[signature].input_names if outputs and signature in self.signatures else ()
        lacks = [name for name in needed if name not in inputs]
        if lacks and self._was_converted:
            raise OnlyTensorFlowKnows(f"Missing inputs: {listed(lacks)}.")
        return lacks

    def close(self) -> None:
        """Releases its resources by dropping the references."""
        vars(self).clear()

    def _find(self, name: str, known: dict[str, dict[str, ResolvedName]], signature: str, what: str) -> ResolvedName:
        if signature not in known:
            raise self._unknown(
                name,
                signature,
                f"The model has no signature {signature!r}{nearest(signature, known)}. Available: {listed(known)}.",
            )
        targets = known[signature]
        if name not in targets:
            raise self._unknown(
                name,
                signature,
                f"The model has no {what} {name!r}{nearest(name, targets)}. Available: {what}s of the signature"
                f" {signature!r}: {listed(targets)}.",
            )
        return targets[name]

    def _unknown(self, name: str, signature: str, message: str) -> Invalid:
        names = self._known_names
        return OnlyTensorFlowKnows(message) if names is None or names.has(name, signature) else Invalid(message)

    @cached_property
    def _known_names(self) -> KnownNames | None:
        """Read on first use: there may be many, and typing errors are rare."""
        return known_names.read(self.names_folder) if self.names_folder is not None else None


def _targets(specs: Iterable[TensorSpec]) -> dict[str, ResolvedName]:
    return {spec.name: ResolvedName(spec.name, spec) for spec in specs}
