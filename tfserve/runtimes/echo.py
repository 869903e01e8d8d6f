"""A model that returns its inputs, for trying a server without TensorFlow.

Its file, `*.echo`, is a JSON object of inputs, `{"x": {"dtype": "float32", "shape": [-1, 2]}}`; each is an output too.
Or it has several such objects, one for each signature: `{"signatures": {"serving_default": {"x": …}, "other": …}}`,
and possibly `"remarks"`, a list of sentences, and `"delay_s"`, how long each computation waits.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import msgspec

from tfserve.errors import Invalid, nearest
from tfserve.models.formats import Located
from tfserve.runtimes.interface import find_signature
from tfserve.runtimes.signature_only import SignatureOnly
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Shape, Signature, TensorSpec


class _Tensor(msgspec.Struct):
    dtype: str
    shape: Shape | None


_Inputs = dict[str, _Tensor]


class _Signatures(msgspec.Struct, forbid_unknown_fields=True):
    signatures: dict[str, _Inputs]
    remarks: list[str] = []
    delay_s: float = 0.0


def load(model: Located, *, device: str) -> EchoModel:  # noqa: ARG001 - it computes nothing, so anywhere will do
    described = _described(model)
    tensors = [tensor for inputs in described.signatures.values() for tensor in inputs.values()]
    if unknown := [tensor.dtype for tensor in tensors if tensor.dtype not in DTYPES]:
        raise Invalid(f"{model.path} has an unknown dtype, {unknown[0]!r}{nearest(unknown[0], DTYPES)}.")
    signatures = {name: _signature(inputs) for name, inputs in described.signatures.items()}
    return EchoModel(model.format, signatures, remarks=described.remarks, delay_s=described.delay_s)


def _described(model: Located) -> _Signatures:
    """The inputs of each signature. Raises `Invalid`."""
    text = model.path.read_bytes()
    try:
        return msgspec.json.decode(text, type=_Signatures)
    except msgspec.DecodeError:
        pass
    try:
        return _Signatures({DEFAULT_SIGNATURE: msgspec.json.decode(text, type=_Inputs)})
    except msgspec.DecodeError as error:
        raise Invalid(f"{model.path} does not describe an echo model: {error}") from error


def _signature(inputs: _Inputs) -> Signature:
    specs = tuple(TensorSpec(name, tensor.dtype, tensor.shape) for name, tensor in inputs.items())
    return Signature(specs, specs)


class EchoModel(SignatureOnly):
    """The outputs of each signature are its inputs."""

    runtime = "echo"

    def __init__(
        self, kind: str, signatures: dict[str, Signature], *, remarks: Sequence[str] = (), delay_s: float = 0.0
    ) -> None:
        super().__init__(kind, signatures)
        self.remarks = list(remarks)
        self._delay_s = delay_s

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        find_signature(self.signatures, signature)
        if self._delay_s:
            threading.Event().wait(self._delay_s)
        return [inputs[name] for name in outputs]

    def missing(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> list[str]:  # noqa: ARG002
        return [name for name in dict.fromkeys(outputs) if name not in inputs]
