"""Checks the tensors of a request against the signature of the model, which may have been replaced since web did."""

from __future__ import annotations

from tfserve.errors import Invalid
from tfserve.ipc.predictions import ComputeRequest, Tensor
from tfserve.runtimes.interface import listed
from tfserve.tensors.specs import Signature, TensorSpec


def check_inputs(signature: Signature, ask: ComputeRequest) -> None:
    """Raises `Invalid` for a request that does not fit its signature."""
    specs = {spec.name: spec for spec in signature.takes}
    names = set(ask.names)
    if not names.issuperset(signature.input_names) or not names <= specs.keys() or len(ask.names) != len(names):
        raise Invalid(f"Signature {ask.signature!r} takes the inputs {listed(specs)}, got {listed(ask.names)}.")
    for name, tensor in zip(ask.names, ask.tensors, strict=True):
        _check_input(specs[name], tensor)


def _check_input(spec: TensorSpec, tensor: Tensor) -> None:
    """The number of rows is left open where the signature does."""
    if tensor.dtype != spec.dtype or not spec.accepts(tensor.shape):
        raise Invalid(
            f"Input {spec.name!r} takes {spec}, got {tensor.dtype} of shape {list(tensor.shape)}. The model may"
            " have been replaced in the meantime: check its metadata."
        )
