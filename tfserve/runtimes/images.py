"""Image files as input: decoded, resized and scaled for a model that takes arrays.

A model that can read files itself (it has a signature `image_bytes`) does so. For any other, what is written beside it
(`assets.extra/image.json` of a SavedModel, by our training) or given at its deployment says how a file becomes its
input, and the signature `image_bytes` is added here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfserve.errors import Invalid, nearest
from tfserve.runtimes import machine, state
from tfserve.runtimes.decoding import decode
from tfserve.runtimes.image_spec import ImageSpec
from tfserve.runtimes.interface import Runtime, Target, listed, release_memory, remarks_of
from tfserve.tensors import DEFAULT_SIGNATURE, DTYPES, Array, Signature, TensorSpec

IMAGE_BYTES = "image_bytes"
PIXELS = "pixels of image_bytes"
"""The signature of what was decoded. No caller sees it."""


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
        self.remarks = remarks_of(runtime)
        self._runtime = runtime
        self.is_stateful = state.is_stateful(runtime)
        self.can_reset_state = state.may_compute(runtime)
        self._spec = spec
        name = DEFAULT_SIGNATURE if len(runtime.signatures) != 1 else next(iter(runtime.signatures))
        base = runtime.signatures.get(name)
        if base is None:
            raise Invalid(f"Files need a signature {DEFAULT_SIGNATURE!r}; there are: {listed(runtime.signatures)}.")
        self._base = name
        self._input = _choose(base.inputs, spec.input, "input", rank=4)
        self._output = _choose(base.outputs, spec.output, "output", rank=None)
        self._check_size()
        self._files = Signature((TensorSpec(IMAGE_BYTES, "string", (-1,)),), _answers(spec.task))
        self.signatures = {**runtime.signatures, IMAGE_BYTES: self._files}
        self.inner = {PIXELS: self._pixels()}
        self.computed_by = {PIXELS: name}
        self._threads = ThreadPoolExecutor(machine.cores(), thread_name_prefix="decode")

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        if signature == IMAGE_BYTES:
            inputs = self.prepare(inputs)
        elif signature != PIXELS:
            return self._runtime.run(inputs, outputs, signature)
        compute = self._classify if self._spec.task == "classification" else self._segment
        values = compute(inputs["pixels"], inputs["size"])
        return [values[name] for name in outputs]

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:
        if signature in (IMAGE_BYTES, PIXELS):
            return state.changes_state(self._runtime, [self._output.name], self._base)
        return state.changes_state(self._runtime, outputs, signature)

    def reset_state(self) -> None:
        state.reset(self._runtime)

    def release_memory(self) -> None:
        release_memory(self._runtime)

    def prepares(self, signature: str) -> str | None:
        return PIXELS if signature == IMAGE_BYTES else None

    def prepare(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Decodes, several files at the same time. May be called from any thread, while others compute."""
        files = inputs[IMAGE_BYTES].tolist()
        if not files:
            raise Invalid("No file was given: one at least was expected.")
        numbers = range(len(files))
        decoded = list(
            self._threads.map(self._decode, numbers, files) if len(files) > 1 else map(self._decode, numbers, files)
        )
        sizes = np.array([size for _, size in decoded], np.int32).reshape((-1, 2))
        return {"pixels": self._stacked([pixels for pixels, _ in decoded]), "size": sizes}

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

    def _pixels(self) -> Signature:
        """Masks are as large as their files, so those of different requests can't share an array."""
        spec, rows = self._spec, -1
        shape = (rows, spec.height or -1, spec.width or -1, spec.channels)
        inputs = (TensorSpec("pixels", self._input.dtype, shape), TensorSpec("size", "int32", (rows, 2)))
        if spec.task == "classification":
            return Signature(inputs, self._files.outputs)
        return Signature(inputs, tuple(TensorSpec(each.name, each.dtype, None) for each in self._files.outputs))

    def _decode(self, number: int, data: bytes) -> tuple[Array, tuple[int, int]]:
        pixels, size = decode(self._spec, number, data)
        return pixels.astype(DTYPES[self._input.dtype].numpy, copy=False), size

    def _stacked(self, images: Sequence[Array]) -> Array:
        if len(images) == 1:
            return images[0][np.newaxis]
        if len({image.shape for image in images}) == 1:
            return np.stack(images)
        if self._spec.task == "classification":
            raise Invalid("Images of different sizes can't be computed together by this model: send them one by one.")
        height, width = np.array([image.shape[:2] for image in images]).max(axis=0).tolist()
        stacked = np.zeros((len(images), height, width, self._spec.channels), images[0].dtype)
        for n, image in enumerate(images):
            stacked[n, : image.shape[0], : image.shape[1]] = image
        return stacked

    def _run(self, images: Array) -> Array:
        (output,) = self._runtime.run({self._input.name: images}, [self._output.name], self._base)
        if output is None:
            raise Invalid(f"The output {self._output.name!r} of the model is no tensor.")
        return output

    def _classify(self, images: Array, _: Array) -> dict[str, Array]:
        chances = self._run(images)
        best, labels = chances.argmax(axis=-1), self._spec.labels
        names = [labels[n] if n < len(labels) else str(n) for n in best.tolist()]
        label = np.empty(len(names), object)
        label[:] = [name.encode() for name in names]
        return {"label": label, "probabilities": chances.astype(np.float32, copy=False)}

    def _segment(self, images: Array, sizes: Array) -> dict[str, Array]:
        """Masks in the files' own sizes; smaller ones are filled up with 0 to the right and below."""
        masks = np.zeros((len(images), *sizes.max(axis=0, initial=0).tolist()), np.uint8)
        for n, (image, (height, width)) in enumerate(zip(images, sizes.tolist(), strict=True)):
            own = image[: self._spec.height or height, : self._spec.width or width]
            masks[n, :height, :width] = _full_size(self._run(own[np.newaxis])[0], (width, height))
        return {"mask": masks, "size": sizes}


def _answers(task: str) -> tuple[TensorSpec, TensorSpec]:
    if task == "classification":
        return TensorSpec("label", "string", (-1,)), TensorSpec("probabilities", "float32", (-1, -1))
    return TensorSpec("mask", "uint8", (-1, -1, -1)), TensorSpec("size", "int32", (-1, 2))


def _choose(specs: Sequence[TensorSpec], name: str | None, what: str, *, rank: int | None) -> TensorSpec:
    fitting = [spec for spec in specs if spec.name == name] if name else [
        spec for spec in specs if rank is None or (spec.shape is not None and len(spec.shape) == rank)
    ]  # fmt: skip
    if len(fitting) == 1 or (fitting and rank is None):
        return fitting[0]
    names = [spec.name for spec in specs]
    raise Invalid(f"image must name the {what} that is meant ({what}): one of {listed(names)}; {name!r} was given.")


def _full_size(output: Array, size: tuple[int, int]) -> Array:
    """A mask of class numbers, (height, width), from a mask or from the chances of each class."""
    from PIL import Image

    mask = output.argmax(axis=-1) if output.ndim == 3 else output
    image = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.NEAREST))
