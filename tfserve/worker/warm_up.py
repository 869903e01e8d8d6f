"""Computes what will be asked before it is asked: nobody is the first caller of a model.

From the signature's shapes, from a former request of the workspace API, and from the last real predictions; one row,
and as many as a batch may have. Batches are compared with single rows here too, so that requests may share one from
the start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from tfserve.errors import Invalid, TFserveError
from tfserve.ipc import predictions
from tfserve.ipc.predictions import Ask, Refusal, to_tensor
from tfserve.runtimes.interface import Runtime
from tfserve.tensors import DEFAULT_SIGNATURE, DTYPES, Array, Signature, TensorSpec
from tfserve.worker.computation import Computation
from tfserve.worker.predictor import Predictor
from tfserve.worker.waiting import Waiting

PROOF_ROWS = 3
MAX_WARM_BYTES = 64 * 1024 * 1024
SEED = 20_260
ENOUGH_S = 0.1
"""After so long no larger batches are tried: a large model is to serve soon."""


def warm_up(
    runtime: Runtime, predictor: Predictor, computation: Computation, *,
    sample: bytes | None, samples: Sequence[bytes], max_rows: int,
) -> str:  # fmt: skip
    """Tells what was done. Raises `Invalid` when the model can't compute.

    A made-up input may rightly be refused, unless the signature leaves nothing open but the number of examples.
    """
    told = [_try_signature(runtime)]
    if sample is not None:
        told.append(_try_sample(predictor, sample, must_work=not runtime.signatures))
    if samples:
        told.append(_try_samples(computation, samples))
    sizes = _try_batches(runtime, computation, max_rows)
    if sizes:
        told.append(f"batches of {', '.join(map(str, sizes))}")
    return "; ".join(told)


def _try_signature(runtime: Runtime) -> str:
    name = DEFAULT_SIGNATURE if len(runtime.signatures) != 1 else next(iter(runtime.signatures))
    signature = runtime.signatures.get(name)
    if signature is None:
        return "no signature to warm up by"
    if any(spec.dtype not in DTYPES for spec in signature.inputs):
        return f"signature {name!r}: an input of a type that can't be made up"
    zeros = {spec.name: _zeros(spec) for spec in signature.inputs}
    try:
        runtime.run(zeros, [spec.name for spec in signature.outputs], name)
    except TFserveError as error:
        if _is_certain(signature):
            raise Invalid(f"The warm-up of signature {name!r} with zeros failed: {error.message}") from error
        return f"signature {name!r}: a made-up input was refused ({error.message})"
    return f"signature {name!r} with zeros"


def _try_sample(predictor: Predictor, sample: bytes, *, must_work: bool) -> str:
    (answer,) = predictor.predict([sample])
    if answer.error is None:
        return "a former request"
    message = msgspec.json.decode(answer.error)["message"]
    if must_work:
        raise Invalid(f"The warm-up with a former request failed: {message}")
    return f"a former request was refused ({message})"


def _try_samples(computation: Computation, samples: Sequence[bytes]) -> str:
    """A new version may have another signature, so a refusal of a former prediction is no failure."""
    asks = [predictions.decode_sample(sample) for sample in samples]
    refused = sum(isinstance(_compute(computation, [ask])[0], Refusal) for ask in asks)
    return f"{len(asks)} former predictions" + (f", {refused} of which were refused" if refused else "")


def _try_batches(runtime: Runtime, computation: Computation, max_rows: int) -> list[int]:
    """The sizes that were computed. Rows that differ show whether the model keeps them apart."""
    sizes: set[int] = set()
    for name, signature in runtime.signatures.items():
        if not _is_certain(signature) or not all(spec.is_batched for spec in (*signature.inputs, *signature.outputs)):
            continue
        row_bytes = sum(_made_up(spec, 1).nbytes for spec in signature.inputs)
        begun_at = time.monotonic()
        for rows in _sizes(min(max_rows, MAX_WARM_BYTES // max(1, row_bytes))):
            asks = [_made_up_ask(name, signature, seed) for seed in range(rows)]
            if not any(isinstance(answer, Refusal) for answer in _compute(computation, asks)):
                sizes.add(rows)
            if time.monotonic() - begun_at > ENOUGH_S:
                break
    return sorted(sizes)


def _sizes(most: int) -> Iterator[int]:
    """Twice a few rows, which are computed together and alone, then powers of two."""
    if most >= PROOF_ROWS:
        yield from (PROOF_ROWS, PROOF_ROWS)
    size = 1
    while size <= most:
        yield size
        size *= 4


def _compute(computation: Computation, asks: Sequence[Ask]) -> Sequence[object]:
    sorted_ = [(ask, *computation.sort(ask)) for ask in asks]
    return computation.run([Waiting(_Nobody(), n, ask, rows, group, 0) for n, (ask, group, rows) in enumerate(sorted_)])


class _Nobody:
    """Whom a warm-up is computed for."""

    def answer(self, request_id: int, answer: predictions.Answer | Refusal) -> None:
        pass

    def flush(self) -> None:
        pass


def _made_up_ask(name: str, signature: Signature, seed: int) -> Ask:
    tensors = tuple(to_tensor(_made_up(spec, 1, SEED + seed)) for spec in signature.inputs)
    outputs = tuple(spec.name for spec in signature.outputs)
    return Ask(name, tuple(spec.name for spec in signature.inputs), tensors, outputs)


def _made_up(spec: TensorSpec, rows: int, seed: int = SEED) -> Array:
    """Small numbers that differ from row to row."""
    shape = (rows, *(spec.shape or ())[1:])
    random = np.random.default_rng(seed)
    kind, dtype = DTYPES[spec.dtype].kind, DTYPES[spec.dtype].numpy
    return random.uniform(0, 1, shape).astype(dtype) if kind == "float" else random.integers(0, 2, shape).astype(dtype)


def _zeros(spec: TensorSpec) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape or ())
    dtype = DTYPES[spec.dtype]
    return np.full(shape, b"", dtype=object) if dtype.kind == "string" else np.zeros(shape, dtype=dtype.numpy)


def _is_certain(signature: Signature) -> bool:
    """Whether zeros of the right shape must be computable."""
    return all(
        spec.dtype in DTYPES and spec.dtype != "string" and spec.shape is not None and -1 not in spec.shape[1:]
        for spec in signature.inputs
    )
