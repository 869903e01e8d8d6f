"""Image files as input: decoded, resized and scaled for a model that takes arrays.

A model that can read files itself (it has a signature `image_bytes`) does so. For any other, what is written beside it
(`assets.extra/image.json` of a SavedModel, by our training) or given at its deployment says how a file becomes its
input, and the signature `image_bytes` is added here.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from tfserve.errors import Invalid, nearest
from tfserve.runtimes.interface import Runtime, Target, listed
from tfserve.tensors import DEFAULT_SIGNATURE, DTYPES, Array, Signature, TensorSpec

IMAGE_BYTES = "image_bytes"
BESIDE = Path("assets.extra") / "image.json"
MAX_PIXELS = 64 * 1024 * 1024
MAX_SIDE = 16_384
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""No others: some readers of Pillow start programs, or take what is hardly an image."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a file becomes an input: resized to `height` and `width`, then each value times `scale` plus `offset`.

    Values of a file are 0 to 255. None as a size leaves the image as large as it is. `input` and `output` are names of
    the default signature; None means the only one that fits. `antialias` smooths what is made smaller, as Pillow and
    our training do; without it pixels are taken as `tf.image.resize` takes them by default.
    """

    height: int | None = None
    width: int | None = None
    channels: int = 3
    scale: float | list[float] = 1.0
    offset: float | list[float] = 0.0
    antialias: bool = True
    labels: list[str] = []
    task: Literal["classification", "segmentation"] = "classification"
    input: str | None = None
    output: str | None = None


def find(path: Path, given: dict[str, Any] | None) -> ImageSpec | None:
    """What was given at the deployment, else what lies beside the model, else None. Raises `Invalid`."""
    if given is not None:
        return _spec(given, "image")
    beside = path / BESIDE
    if not beside.is_file():
        return None
    try:
        return _spec(msgspec.json.decode(beside.read_bytes()), str(beside))
    except msgspec.DecodeError as error:
        raise Invalid(f"{beside} is not JSON: {error}.") from None


def _spec(value: Any, where: str) -> ImageSpec:
    try:
        spec = msgspec.convert(value, ImageSpec)
    except msgspec.ValidationError as error:
        fields = ", ".join(ImageSpec.__struct_fields__)
        raise Invalid(f"{where} does not describe images: {error}. Its fields are {fields}.") from None
    if spec.channels not in MODES:
        raise Invalid(f"{where}: channels is one of 1, 3 and 4; {spec.channels} was given.")
    for name, side in (("height", spec.height), ("width", spec.width)):
        if side is not None and not 1 <= side <= MAX_SIDE:
            raise Invalid(f"{where}: {name} is a number of pixels from 1 to {MAX_SIDE}; {side} was given.")
    for name, factor in (("scale", spec.scale), ("offset", spec.offset)):
        if isinstance(factor, list) and len(factor) != spec.channels:
            raise Invalid(
                f"{where}: {name} is one number, or {spec.channels} (one a channel); {len(factor)} were given."
            )
    return spec


def with_files(runtime: Runtime, spec: ImageSpec | None, *, is_given: bool) -> Runtime:
    """The same model, with a signature that takes files. Raises `Invalid` when the description does not fit it.

    What was given at the deployment takes the place of a signature that the model has itself, which other runtimes do
    not have: so every runtime reads files in one way.
    """
    if spec is None or (IMAGE_BYTES in runtime.signatures and not is_given):
        return runtime
    return ImageFiles(runtime, spec)


class ImageFiles:
    """A model that takes arrays, and files too."""

    def __init__(self, runtime: Runtime, spec: ImageSpec) -> None:
        self.format = runtime.format
        self.runtime = runtime.runtime
        self._runtime = runtime
        self._spec = spec
        name = DEFAULT_SIGNATURE if len(runtime.signatures) != 1 else next(iter(runtime.signatures))
        base = runtime.signatures.get(name)
        if base is None:
            raise Invalid(f"Files need a signature {DEFAULT_SIGNATURE!r}; there are: {listed(runtime.signatures)}.")
        self._base = name
        self._input = _choose(base.inputs, spec.input, "input", rank=4)
        self._output = _choose(base.outputs, spec.output, "output", rank=None)
        self._check_size()
        self._files = Signature(
            (TensorSpec(IMAGE_BYTES, "string", (-1,)),),
            (
                (TensorSpec("label", "string", (-1,)), TensorSpec("probabilities", "float32", (-1, -1)))
                if spec.task == "classification"
                else (TensorSpec("mask", "uint8", (-1, -1, -1)), TensorSpec("size", "int32", (-1, 2)))
            ),
        )
        self.signatures = {**runtime.signatures, IMAGE_BYTES: self._files}
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        if signature != IMAGE_BYTES:
            return self._runtime.run(inputs, outputs, signature)
        files = inputs[IMAGE_BYTES].tolist()
        images = list(self._threads.map(self._decode, range(len(files)), files))
        values = self._classify(images) if self._spec.task == "classification" else self._segment(images)
        return [values[name] for name in outputs]

    def feeds(self, name: str, signature: str) -> Sequence[Target]:
        return self._own(name, self._files.inputs) if signature == IMAGE_BYTES else self._runtime.feeds(name, signature)

    def fetches(self, name: str, signature: str) -> Sequence[Target]:
        if signature == IMAGE_BYTES:
            return self._own(name, self._files.outputs)
        return self._runtime.fetches(name, signature)

    def missing(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> list[str]:
        if signature == IMAGE_BYTES:
            return [] if IMAGE_BYTES in inputs else [IMAGE_BYTES]
        return self._runtime.missing(inputs, outputs, signature)

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        self._runtime.close()

    # --- inside

    def _own(self, name: str, specs: Sequence[TensorSpec]) -> Sequence[Target]:
        for spec in specs:
            if spec.name == name:
                return [Target(name, spec)]
        names = [spec.name for spec in specs]
        raise Invalid(f"Signature {IMAGE_BYTES!r} has no {name!r}{nearest(name, names)}. There are: {listed(names)}.")

    def _check_size(self) -> None:
        shape = self._input.shape or (-1, -1, -1, -1)
        wanted = (self._spec.height or -1, self._spec.width or -1, self._spec.channels)
        if not all(size in (-1, want) or want == -1 for size, want in zip(shape[1:], wanted, strict=True)):
            raise Invalid(f"image says {list(wanted)} (height, width, channels), but the model takes {self._input}.")

    def _decode(self, number: int, data: bytes) -> tuple[Array, tuple[int, int]]:
        """The input for one file, and the file's own height and width. Raises `Invalid` that says which file."""
        from PIL import Image

        spec = self._spec
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise Invalid(f"Image {number} has {width}x{height} pixels; at most {MAX_PIXELS} are read.")
                to = (spec.width or width, spec.height or height)
                if spec.antialias:
                    image.draft("RGB", (2 * to[0], 2 * to[1]))
                eight = image.point(lambda value: value / 256, "L") if image.mode.startswith("I;16") else image
                plain = eight.convert(MODES[spec.channels])
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            told = str(error).split("<")[0].strip() or type(error).__name__
            raise Invalid(
                f"Image {number} can't be decoded ({told}): the bytes of a JPEG, PNG, GIF, BMP or WebP file were"
                f" expected; {len(data)} bytes beginning with {data[:8]!r} were given."
            ) from None
        if plain.size != to and spec.antialias:
            plain = plain.resize(to, Image.Resampling.BILINEAR)
        pixels = np.asarray(plain).reshape((plain.height, plain.width, spec.channels))
        array = pixels.astype(np.float32) if plain.size == to else _taken_between(pixels, to)
        if spec.scale != 1.0 or spec.offset != 0.0:
            array *= np.asarray(spec.scale, np.float32)
            array += np.asarray(spec.offset, np.float32)
        return array.astype(DTYPES[self._input.dtype].numpy, copy=False), (height, width)

    def _run(self, images: Array) -> Array:
        (output,) = self._runtime.run({self._input.name: images}, [self._output.name], self._base)
        if output is None:
            raise Invalid(f"The output {self._output.name!r} of the model is no tensor.")
        return output

    def _classify(self, images: Sequence[tuple[Array, tuple[int, int]]]) -> dict[str, Array]:
        chances = self._run(_stacked([image for image, _ in images]))
        best, labels = chances.argmax(axis=-1), self._spec.labels
        names = [labels[n] if n < len(labels) else str(n) for n in best.tolist()]
        label = np.empty(len(names), object)
        label[:] = [name.encode() for name in names]
        return {"label": label, "probabilities": chances.astype(np.float32, copy=False)}

    def _segment(self, images: Sequence[tuple[Array, tuple[int, int]]]) -> dict[str, Array]:
        """Masks in the files' own sizes; smaller ones are filled up with 0 to the right and below."""
        sizes = np.array([size for _, size in images], np.int32).reshape((-1, 2))
        masks = np.zeros((len(images), *sizes.max(axis=0).tolist()), np.uint8)
        for n, (image, (height, width)) in enumerate(images):
            masks[n, :height, :width] = _full_size(self._run(image[np.newaxis])[0], (width, height))
        return {"mask": masks, "size": sizes}


def _choose(specs: Sequence[TensorSpec], name: str | None, what: str, *, rank: int | None) -> TensorSpec:
    fitting = [spec for spec in specs if spec.name == name] if name else [
        spec for spec in specs if rank is None or (spec.shape is not None and len(spec.shape) == rank)
    ]  # fmt: skip
    if len(fitting) == 1 or (fitting and rank is None):
        return fitting[0]
    names = [spec.name for spec in specs]
    raise Invalid(f"image must name the {what} that is meant ({what}): one of {listed(names)}; {name!r} was given.")


def _stacked(images: Sequence[Array]) -> Array:
    if len({image.shape for image in images}) > 1:
        raise Invalid("Images of different sizes can't be computed together by this model: send them one by one.")
    return np.stack(images)


def _taken_between(image: Array, size: tuple[int, int]) -> Array:
    """Each value from the four pixels around its place; `size` is (width, height)."""
    above, below, down = _places(image.shape[0], size[1])
    left, right, across = _places(image.shape[1], size[0])
    # In place, since new memory for each step costs as much as the step.
    rows: Array = image.take(above, 0).astype(np.float32)
    rows += (image.take(below, 0) - rows) * down[:, np.newaxis, np.newaxis]
    values: Array = rows.take(left, 1)
    values += (rows.take(right, 1) - values) * across[np.newaxis, :, np.newaxis]
    return values


@lru_cache(64)
def _places(old: int, new: int) -> tuple[Array, Array, Array]:
    """For each of the new pixels the old ones around its centre, and how far it is from the first to the second."""
    at = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5)
    first = np.floor(at)
    ends = [np.clip(place, 0, old - 1).astype(np.intp) for place in (first, first + 1)]
    return ends[0], ends[1], at - first


def _full_size(output: Array, size: tuple[int, int]) -> Array:
    """A mask of class numbers, (height, width), from a mask or from the chances of each class."""
    from PIL import Image

    mask = output.argmax(axis=-1) if output.ndim == 3 else output
    image = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.NEAREST))
