"""How long a model takes for a few made-up rows: whether it is so light that threads cost more than they give."""

from __future__ import annotations

import time

import numpy as np

from tfserve.errors import TFserveError
from tfserve.runtimes.interface import Runtime
from tfserve.tensors import DEFAULT_SIGNATURE, DTYPES, Array, Signature, TensorSpec

ROWS = 8
CALLS = 12
LIGHT_S = 0.001
HEAVY_S = 0.02
"""Whatever takes so long will not turn out to be light."""


def seconds(runtime: Runtime) -> float | None:
    """The shortest time of a few calls of the default signature; None when its inputs can't be made up.

    A model that turns out to be heavy is called twice only.
    """
    signature = runtime.signatures.get(DEFAULT_SIGNATURE)
    if signature is None or not _can_be_made_up(signature):
        return None
    inputs = {spec.name: _ones(spec) for spec in signature.inputs}
    outputs = [spec.name for spec in signature.outputs]
    best = float("inf")
    try:
        runtime.run(inputs, outputs, DEFAULT_SIGNATURE)  # the first call builds what the others use
        for _ in range(CALLS):
            begun_at = time.perf_counter()
            runtime.run(inputs, outputs, DEFAULT_SIGNATURE)
            best = min(best, time.perf_counter() - begun_at)
            if best > HEAVY_S:
                break
    except TFserveError:
        return None
    return best


def _can_be_made_up(signature: Signature) -> bool:
    return bool(signature.inputs) and all(
        spec.shape is not None and spec.dtype in DTYPES and spec.dtype != "string" and -1 not in spec.shape[1:]
        for spec in signature.inputs
    )


def _ones(spec: TensorSpec) -> Array:
    shape = tuple(ROWS if size == -1 else size for size in spec.shape or ())
    return np.ones(shape, DTYPES[spec.dtype].numpy)
