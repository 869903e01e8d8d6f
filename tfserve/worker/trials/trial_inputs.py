"""Inputs to compare runtimes with: synthetic ones for a signature, and those of recorded requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tfserve.errors import TFserveError
from tfserve.ipc import predictions
from tfserve.ipc.predictions import to_array
from tfserve.models.runtime_reports import Number
from tfserve.runtimes.synthetic_inputs import shape_of, size_bytes, uncertainty
from tfserve.tensors.casting import cast
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Shape, Signature, TensorSpec
from tfserve.worker.model.predictor import PredictRequest

Inputs = Mapping[str, Array]

BATCH_ROWS = (1, 3, 8)
"""Numbers of examples to try where a signature leaves it open."""
TIMED_ROWS = (1, 8)
MAX_BYTES = 32 * 1024 * 1024
"""Maximum elements of one input for all examples; beyond it, one example is enough."""
SEED = 20_261

SPREADS = ("normal", "unit", "octets", "signed", "zeros", "ones", "steps")
"""Numbers around 0; from 0 to 1; from 0 to 255; all that are ordinary; the same number everywhere; and halves or whole
numbers, at which functions have steps."""

_STEPS = sorted(range(-16, 17), key=lambda step: (abs(step or 2), step))
"""-1 first: where TensorFlow has no such class, other libraries count from the end."""

RUNGS: tuple[tuple[float, int], ...] = (
    (255.0, 255), (1e3, 2**10), (1e4, 2**13), (1e5, 2**16), (1e6, 2**20), (1e9, 2**24), (1e12, 2**31 - 1),
    (1e18, 2**40), (1e25, 2**53), (1e32, 2**64), (float("inf"), 2**64),
)  # fmt: skip
"""The magnitudes of floats and integers, step by step: a conversion is used up to the one that agrees."""

Envelope = Mapping[str, tuple[Number, Number]]
"""The lowest and the highest number of each input that has numbers."""


def why_never(signature: Signature) -> str:
    """Why nothing can be compared, even with recorded requests, for people; empty if it can."""
    for spec in signature.inputs:
        if spec.dtype not in DTYPES:
            return f"input {spec.name!r} is of the type {spec.dtype}, which can't be compared"
        if spec.shape is None:
            return f"input {spec.name!r} takes {spec}, but conversions need to know its rank"
    return "" if signature.inputs else "the signature has no inputs"


def why_not(signature: Signature) -> str:
    """Why no inputs can be generated, for people; empty if they can."""
    if not signature.inputs:
        return "the signature has no inputs"
    return next(filter(None, map(uncertainty, signature.inputs)), "")


def envelopes(signature: Signature, limits: Envelope) -> list[Envelope]:
    """Increasingly wide ranges of numbers that the model accepts. The first is the ordinary one."""
    found: list[Envelope] = []
    for level in range(len(RUNGS)):
        one = {spec.name: _envelope(spec, limits[spec.name], level) for spec in signature.inputs if spec.name in limits}
        if not found or one != found[-1]:
            found.append(one)
    return found


def _envelope(spec: TensorSpec, limits: tuple[Number, Number], level: int) -> tuple[Number, Number]:
    lowest, highest = limits
    is_whole = DTYPES[spec.dtype].kind == "int"
    reach = _reach(spec, level)
    if lowest > reach:
        return lowest, min(highest, lowest + reach)
    below = 0 if is_whole and level == 0 else -reach
    if highest < below:
        return max(lowest, highest - reach), highest
    return max(lowest, below), min(highest, reach)


def _reach(spec: TensorSpec, level: int) -> Number:
    """The largest magnitude at a level, in the input's type."""
    floating, whole = RUNGS[level]
    if DTYPES[spec.dtype].kind == "int":
        return whole
    with np.errstate(over="ignore"):
        return float(np.float64(floating).astype(DTYPES[spec.dtype].numpy))


def ordinary(signature: Signature, envelope: Envelope) -> Iterator[Inputs]:
    """Inputs of each spread, in each number of examples. Call it only when nothing is in the way."""
    for number, spread in enumerate(SPREADS):
        for rows in rows_to_try(signature):
            random = np.random.default_rng((SEED, number, rows))
            yield {spec.name: _array(spec, rows, spread, envelope, random) for spec in signature.inputs}


def varied(base: Inputs, envelope: Envelope, level: int) -> Iterator[Inputs]:
    """`base` with numbers from all of a range: evenly, by their size, at its ends, and the smallest."""
    for number, spread in enumerate(("even", "sizes", "ends", "steps")):
        random = np.random.default_rng((SEED, level, number))
        yield {
            name: _numbers(array.shape, array.dtype, spread, *envelope[name], random) if name in envelope else array
            for name, array in base.items()
        }


def tiny(base: Inputs) -> Inputs | None:
    """`base` with denormals and negative zeros; None without floats of 32 or 64 bits."""
    floats = {name: array for name, array in base.items() if array.dtype in (np.float32, np.float64) and array.size}
    if not floats:
        return None
    made = {}
    for name, array in floats.items():
        smallest = np.finfo(array.dtype).smallest_normal
        made[name] = np.resize(np.array([smallest / 4, -0.0, -smallest / 4], array.dtype), array.shape)
    return {**base, **made}


ODD_TEXTS = (b"", "\u00dcn\u00efc\u00f6d\u00e9 \u6f22\u5b57 \U0001f642".encode(), b"\xff\xfe", b"a\0b")


def odd_texts(base: Inputs) -> Iterator[Inputs]:
    """`base` with texts that are empty, beyond ASCII, no text at all, or have a NUL."""
    for text in ODD_TEXTS:
        if any(array.dtype == object for array in base.values()):
            yield {name: _filled(array, text) if array.dtype == object else array for name, array in base.items()}


def _filled(array: Array, text: bytes) -> Array:
    """Changes the first element only: its neighbours must not change."""
    changed = array.copy()
    changed.flat[:1] = text
    return changed


def relatives(signature: Signature, base: Inputs) -> Iterator[Inputs]:
    """Recorded inputs with other sizes where sizes are open, with more rows, and with other words."""
    open_ = {spec.name: [n for n, size in enumerate(spec.shape or ()) if n and size == -1] for spec in signature.inputs}
    if any(open_.values()):
        for change in (_half, _one_more, _twice):
            yield {name: _resized(array, open_[name], change) for name, array in base.items()}
    if all(spec.is_batched for spec in signature.inputs):
        for rows in BATCH_ROWS[1:]:
            yield {name: _tiled(array, 0, rows) for name, array in base.items()}
    if any(array.dtype == object for array in base.values()):
        for change_text in (bytes.swapcase, lambda text: text[::-1], lambda text: text + b" zq9, " + text):
            yield {name: _reworded(array, change_text) for name, array in base.items()}


def _resized(array: Array, axes: Sequence[int], change: Callable[[int], int]) -> Array:
    for axis in axes:
        array = _tiled(array, axis, change(array.shape[axis]))
    return array


def _tiled(array: Array, axis: int, size: int) -> Array:
    """Cut off, or repeated from its beginning."""
    repeated: Array = np.take(array, np.arange(size) % max(1, array.shape[axis]), axis)
    return repeated


def _half(size: int) -> int:
    return max(1, size // 2)


def _one_more(size: int) -> int:
    return size + 1


def _twice(size: int) -> int:
    return size * 2 + 3


def _reworded(array: Array, change: Callable[[bytes], bytes]) -> Array:
    """Bytes that are not plain text, such as files, stay unchanged."""
    if array.dtype != object:
        return array
    changed = np.empty(array.size, object)
    changed[:] = [change(text) if text.isascii() else text for text in array.flat]
    return changed.reshape(array.shape)


def first_bases(signature: Signature) -> Iterator[Inputs]:
    """One example each, which the model may accept. Call it only if `why_not` is empty."""
    limits = {spec.name: (-np.inf, np.inf) for spec in signature.inputs}
    for number, spread in enumerate(("unit", "ones", "zeros", "octets", "normal")):
        random = np.random.default_rng((SEED, number))
        yield {spec.name: _array(spec, 1, spread, limits, random) for spec in signature.inputs}


def rows_to_try(signature: Signature) -> Sequence[int]:
    """Numbers of examples that fit; [1] when the signature leaves no choice."""
    if not all(spec.is_batched for spec in signature.inputs):
        return (1,)
    row_bytes = max(size_bytes(spec, 1) for spec in signature.inputs)
    return [rows for rows in BATCH_ROWS if rows == 1 or rows * row_bytes <= MAX_BYTES]


def from_samples(name: str, signature: Signature, samples: Sequence[bytes]) -> Iterator[Inputs]:
    """The inputs of recorded requests. Requests for something else, or for a part of a signature, are left out."""
    specs = {spec.name: spec for spec in signature.inputs}
    for sample in samples:
        try:
            inputs = _of_json(name, specs, sample) if sample.startswith(b"{") else _of_ask(name, sample)
        except (TFserveError, msgspec.DecodeError, ValueError):
            continue
        if inputs.keys() == specs.keys() and all(_fits(specs[each], array) for each, array in inputs.items()):
            yield inputs


def _of_json(name: str, specs: Mapping[str, TensorSpec], sample: bytes) -> Inputs:
    parsed = msgspec.json.decode(sample, type=PredictRequest)
    given = parsed.feed_dict or {}
    return {each: cast(given[each], specs[each], each) for each in given if parsed.signature == name and each in specs}


def _of_ask(name: str, sample: bytes) -> Inputs:
    ask = predictions.decode_sample(sample)
    if ask.signature != name:
        return {}
    return {each: to_array(tensor) for each, tensor in zip(ask.names, ask.tensors, strict=True)}


def _fits(spec: TensorSpec, array: Array) -> bool:
    return array.dtype == DTYPES[spec.dtype].numpy and spec.accepts(array.shape)


def _array(spec: TensorSpec, rows: int, spread: str, envelope: Envelope, random: np.random.Generator) -> Array:
    shape, dtype = shape_of(spec, rows), DTYPES[spec.dtype]
    if dtype.kind == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    return _numbers(shape, dtype.numpy, spread, *envelope[spec.name], random)


def _numbers(
    shape: Shape, dtype: np.dtype[Any], spread: str, lowest: Number, highest: Number, random: np.random.Generator
) -> Array:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        lowest, highest = max(int(limits.min), _whole(lowest)), min(int(limits.max), _whole(highest))
        return _whole_numbers(shape, dtype, spread, lowest, highest, random)
    found = _floats(shape, spread, float(lowest), float(highest), random)
    outside = ~((found >= lowest) & (found <= highest))
    if outside.any():
        found = np.where(outside, _even(shape, max(float(lowest), -255.0), min(float(highest), 255.0), random), found)
    with np.errstate(over="ignore"):
        clipped: Array = np.clip(found, float(lowest), float(highest)).astype(dtype)
    return clipped


def _whole(value: Number) -> int:
    return int(value) if np.isfinite(value) else (2**64 if value > 0 else -(2**64))


def _floats(shape: Shape, spread: str, lowest: float, highest: float, random: np.random.Generator) -> Array:
    if spread == "normal":
        return random.normal(0, 1, shape)
    if spread in ("unit", "octets"):
        return random.uniform(0, 1 if spread == "unit" else 255, shape)
    if spread in ("zeros", "ones"):
        return np.full(shape, 0.0 if spread == "zeros" else 1.0)
    if spread == "steps":
        return np.resize(np.array(_STEPS) / 2, shape)
    if spread == "ends":
        return np.where(random.integers(0, 2, shape) == 1, highest, lowest)
    if spread == "sizes":
        most = np.log10(max(abs(lowest), abs(highest), 1e-3))
        sizes: Array = 10 ** random.uniform(-30, most, shape) * random.choice([-1.0, 1.0], shape)
        return sizes
    return _even(shape, lowest, highest, random)


def _even(shape: Shape, lowest: float, highest: float, random: np.random.Generator) -> Array:
    if lowest > highest:  # no ordinary number is accepted
        lowest, highest = highest, lowest
    part: Array = random.uniform(0, 1, shape)
    between: Array = lowest * (1 - part) + highest * part
    return between


def _whole_numbers(
    shape: Shape, dtype: np.dtype[Any], spread: str, lowest: int, highest: int, random: np.random.Generator
) -> Array:
    if spread == "steps" and (steps := [step for step in _STEPS if lowest <= step <= highest]):
        return np.resize(np.array(steps, dtype), shape)
    if spread == "ends":
        return np.where(random.integers(0, 2, shape) == 1, np.array(highest, dtype), np.array(lowest, dtype))
    if spread == "sizes":
        sizes = 2 ** random.uniform(0, np.log2(max(abs(lowest), abs(highest), 2)), shape)
        signs = random.choice([-1.0, 1.0], shape)
        least, most = np.nextafter(float(lowest), np.inf), np.nextafter(float(highest), -np.inf)
        found = np.clip(sizes * signs, least, most).astype(dtype) if most > least else np.full(shape, lowest, dtype)
        return np.clip(found, np.array(lowest, dtype), np.array(highest, dtype))
    low, high = {"normal": (0, 9), "unit": (0, 1), "octets": (0, 255), "zeros": (0, 0), "ones": (1, 1)}.get(
        spread, (lowest, highest)
    )
    low, high = max(low, lowest), min(high, highest)
    if low > high:
        low, high = lowest, min(highest, lowest + 9)
    drawn: Array = random.integers(low, high, shape, dtype, endpoint=True)
    return drawn
