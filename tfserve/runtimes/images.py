"""Image files as input: decoded, resized and normalized for a model that takes arrays.

The deployment, or metadata in or next to the model, describes how a file becomes its input and what its
outputs mean. The signature `image_bytes` is then added here, replacing one of the model itself, so that every
runtime and every form of a model reads files in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfserve.errors import Invalid, TFserveError, nearest
from tfserve.runtimes import concurrent, image_boxes, image_input, image_output, machine, row_walk, state
from tfserve.runtimes.decoding import decode
from tfserve.runtimes.image_metadata import FoundDescription
from tfserve.runtimes.image_spec import ImageSpec
from tfserve.runtimes.interface import ResolvedName, Runtime, add_remark, listed, release_memory, remarks_of
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature, TensorSpec

IMAGE_BYTES = "image_bytes"
PIXELS = "pixels of image_bytes"
"""The internal signature of decoded images."""


def with_files(runtime: Runtime, found: FoundDescription | None) -> Runtime:
    """The same model, with a signature that takes files if it has a description.

    Raises `Invalid` when a binding description does not match the model; another one only causes a remark.
    """
    if found is None:
        return runtime
    try:
        return ImageFiles(runtime, found.spec)
    except Invalid as error:
        if found.binding:
            raise
        add_remark(
            runtime, f"Image files are not accepted, because the model's metadata does not match: {error.message}"
        )
        return runtime


class ImageFiles:
    """A model that takes arrays and also files.

    Raises `Invalid` when the description does not match the model. `spec` is the completed description.
    """

    def __init__(self, runtime: Runtime, spec: ImageSpec) -> None:
        self.format = runtime.format
        self.runtime = runtime.runtime
        self._runtime = runtime
        self.is_stateful = state.is_stateful(runtime)
        self.can_reset_state = state.may_compute(runtime)
        self._base = _base_signature(runtime)
        base = runtime.signatures[self._base]
        self._input = image_input.fit(_choose_input(base.inputs, spec.input), spec)
        self.spec = self._input.spec
        self._outputs = image_output.choose_all(base.outputs, self.spec)
        self._output = self._outputs[0]
        self._check_other_inputs()
        self._check_open_classes()
        self.remarks = [*remarks_of(runtime), *self._input.remarks]
        self._files = Signature((TensorSpec(IMAGE_BYTES, "string", (-1,)),), _answers(spec.task))
        self.signatures = {**runtime.signatures, IMAGE_BYTES: self._files}
        self.inner = {PIXELS: self._pixels()}
        self.computed_by = {PIXELS: self._base}
        self._threads = ThreadPoolExecutor(machine.cores(), thread_name_prefix="decode")
        self.is_shareable = concurrent.is_shareable(runtime)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        if signature == IMAGE_BYTES:
            inputs = self.prepare(inputs)
        elif signature != PIXELS:
            return self._runtime.run(inputs, outputs, signature)
        computes = {"classification": self._classify, "segmentation": self._segment, "detection": self._detect}
        values = computes[self.spec.task](inputs["pixels"], inputs["size"])
        return [values[name] for name in outputs]

    def why_mixed(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> str:
        if signature not in (IMAGE_BYTES, PIXELS):
            return row_walk.why_mixed(self._runtime, inputs, outputs, signature)
        base = self._runtime.signatures[self._base]
        return row_walk.why_mixed(self._runtime, base.input_names, [each.name for each in base.outputs], self._base)

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:
        if signature in (IMAGE_BYTES, PIXELS):
            return state.changes_state(self._runtime, [each.name for each in self._outputs], self._base)
        return state.changes_state(self._runtime, outputs, signature)

    def reset_state(self) -> None:
        state.reset(self._runtime)

    def release_memory(self) -> None:
        release_memory(self._runtime)

    def narrowed(self, computations: int) -> ImageFiles:
        twin = copy.copy(self)
        twin._runtime = concurrent.narrowed(self._runtime, computations)
        twin._threads = ThreadPoolExecutor(machine.cores(), thread_name_prefix="decode")  # either may be closed alone
        return twin

    def prepares(self, signature: str) -> str | None:
        return PIXELS if signature == IMAGE_BYTES else None

    def prepare(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Decodes several files concurrently. May be called from any thread, while others run the model."""
        files = inputs[IMAGE_BYTES].tolist()
        if not files:
            raise Invalid("Expected at least one image file, got none.")
        numbers = range(len(files))
        decoded = list(
            self._threads.map(self._decode, numbers, files) if len(files) > 1 else map(self._decode, numbers, files)
        )
        sizes = np.array([size for _, size in decoded], np.int32).reshape((-1, 2))
        return {"pixels": self._stacked([pixels for pixels, _ in decoded]), "size": sizes}

    def feeds(self, name: str, signature: str) -> Sequence[ResolvedName]:
        return self._own(name, self._files.inputs) if signature == IMAGE_BYTES else self._runtime.feeds(name, signature)

    def fetches(self, name: str, signature: str) -> Sequence[ResolvedName]:
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

    def model_inputs(self, made: Mapping[str, Array]) -> dict[str, Array]:
        return {self._input.tensor.name: made["pixels"]}

    # --- inside

    def _own(self, name: str, specs: Sequence[TensorSpec]) -> Sequence[ResolvedName]:
        for spec in specs:
            if spec.name == name:
                return [ResolvedName(name, spec)]
        names = [spec.name for spec in specs]
        raise Invalid(f"Signature {IMAGE_BYTES!r} has no {name!r}{nearest(name, names)}. Available: {listed(names)}.")

    def _check_other_inputs(self) -> None:
        given = [target.name for target in self._runtime.feeds(self._input.tensor.name, self._base)]
        names = [each.name for each in self._outputs]
        requested = [target.name for name in names for target in self._runtime.fetches(name, self._base)]
        if lacks := self._runtime.missing(given, requested, self._base):
            raise Invalid(
                f"image: the model has other inputs besides the image: {listed(lacks)}. Files alone are not enough."
            )

    def _check_open_classes(self) -> None:
        """Raises `Invalid` if an output with an open shape does not have one class per label."""
        if not self.spec.labels or self.spec.task != "classification" or -1 in self._input.shape:
            return
        if self._output.shape is not None and -1 not in self._output.shape[1:]:
            return
        count = self._input.batch or 1
        blank = np.zeros((count, *self._input.shape), DTYPES[self._input.tensor.dtype].numpy)
        try:
            output = self._run(blank)
        except TFserveError:
            return  # a blank image may be rejected
        image_output.check_classes(output.size // count, self._output.name, self.spec)

    def _pixels(self) -> Signature:
        """Masks are as large as their files, so those of different requests can't share an array."""
        shape = (-1, *self._input.shape)
        inputs = (TensorSpec("pixels", self._input.tensor.dtype, shape), TensorSpec("size", "int32", (-1, 2)))
        if self.spec.task != "segmentation":
            return Signature(inputs, self._files.outputs)
        return Signature(inputs, tuple(TensorSpec(each.name, each.dtype, None) for each in self._files.outputs))

    def _decode(self, number: int, data: bytes) -> tuple[Array, tuple[int, int]]:
        values, size = decode(self.spec, number, data)
        return self._input.arranged(values), size

    def _stacked(self, images: Sequence[Array]) -> Array:
        if len(images) == 1:
            return images[0][np.newaxis]
        if len({image.shape for image in images}) == 1:
            return np.stack(images)
        if self.spec.task != "segmentation":
            raise Invalid("This model can't process images of different sizes in one request. Send them one by one.")
        largest = np.array([image.shape for image in images]).max(axis=0).tolist()
        stacked = np.zeros((len(images), *largest), images[0].dtype)
        for n, image in enumerate(images):
            within = tuple([slice(side) for side in image.shape])
            stacked[n][within] = image
        return stacked

    def _run(self, images: Array) -> Array:
        (output,) = self._runtime.run({self._input.tensor.name: images}, [self._output.name], self._base)
        if output is None:
            raise Invalid(f"The output {self._output.name!r} of the model is not a tensor.")
        return output

    def _classify(self, images: Array, _: Array) -> dict[str, Array]:
        chances = np.concatenate([self._probabilities(part) for part in self._parts(images)])
        best, labels = chances.argmax(axis=-1), self.spec.labels
        names = [labels[n] if labels else str(n) for n in best.tolist()]
        label = np.empty(len(names), object)
        label[:] = [name.encode() for name in names]
        return {"label": label, "probabilities": chances}

    def _probabilities(self, images: Array) -> Array:
        """Of as many images as the model takes at once, or fewer."""
        count, images = len(images), self._filled_up(images)
        return image_output.probabilities(self._run(images), self._output, self.spec, count=len(images))[:count]

    def _filled_up(self, images: Array) -> Array:
        """As many images as the model takes at once: the last is repeated."""
        lacks = (self._input.batch or len(images)) - len(images)
        return np.concatenate([images, np.repeat(images[-1:], lacks, axis=0)]) if lacks > 0 else images

    def _detect(self, images: Array, sizes: Array) -> dict[str, Array]:
        parts = [self._detections(part) for part in self._parts(images)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in image_boxes.NAMES}
        return image_boxes.for_files(joined, sizes, self.spec)

    def _detections(self, images: Array) -> dict[str, Array]:
        """Of as many images as the model takes at once, or fewer."""
        inputs = {self._input.tensor.name: self._filled_up(images)}
        values = self._runtime.run(inputs, image_boxes.NAMES, self._base)
        return {
            each.name: image_output.real(value, each)[: len(images)]
            for each, value in zip(self._outputs, values, strict=True) if value is not None
        }  # fmt: skip

    def _parts(self, images: Array) -> Sequence[Array]:
        batch = self._input.batch or len(images)
        return [images[n : n + batch] for n in range(0, len(images), batch)]

    def _segment(self, images: Array, sizes: Array) -> dict[str, Array]:
        """Masks in the files' own sizes; smaller ones are filled up with 0 to the right and below."""
        masks = np.zeros((len(images), *sizes.max(axis=0, initial=0).tolist()), np.uint8)
        for n, (image, (height, width)) in enumerate(zip(images, sizes.tolist(), strict=True)):
            masks[n, :height, :width] = self._mask(image, (height, width))
        return {"mask": masks, "size": sizes}

    def _mask(self, image: Array, size: tuple[int, int]) -> Array:
        """Of one image, which may have been filled up to the size of others."""
        seen = self.spec.height or size[0], self.spec.width or size[1]
        within = [slice(None)] * image.ndim
        if image.ndim > 1:
            for axis, side in zip(self._input.spatial_axes, seen, strict=True):
                within[axis] = slice(side)
        images = image[tuple(within)][np.newaxis]
        if (batch := self._input.batch or 1) > 1:
            return image_output.mask(
                self._run(np.repeat(images, batch, axis=0))[:1], self._output, self.spec, seen=seen, size=size
            )
        return image_output.mask(self._run(images), self._output, self.spec, seen=seen, size=size)


def _base_signature(runtime: Runtime) -> str:
    own = [name for name in runtime.signatures if name != IMAGE_BYTES]
    name = own[0] if len(own) == 1 else DEFAULT_SIGNATURE
    if name not in own:
        raise Invalid(f"Image files need a signature {DEFAULT_SIGNATURE!r}. The model has: {listed(own)}.")
    return name


def _answers(task: str) -> tuple[TensorSpec, ...]:
    if task == "classification":
        return TensorSpec("label", "string", (-1,)), TensorSpec("probabilities", "float32", (-1, -1))
    if task == "detection":
        return (
            TensorSpec("boxes", "float32", (-1, -1, 4)), TensorSpec("scores", "float32", (-1, -1)),
            TensorSpec("labels", "string", (-1, -1)), TensorSpec("count", "int32", (-1,)),
        )  # fmt: skip
    return TensorSpec("mask", "uint8", (-1, -1, -1)), TensorSpec("size", "int32", (-1, 2))


def _choose_input(inputs: Sequence[TensorSpec], name: str | None) -> TensorSpec:
    """The input called `name`, else the only one, else the only one with as many dimensions as images have."""
    fitting = [spec for spec in inputs if spec.name == name] if name else list(inputs)
    if len(fitting) > 1:
        fitting = [spec for spec in inputs if spec.shape is not None and len(spec.shape) == 4]
    if len(fitting) == 1:
        return fitting[0]
    names = [spec.name for spec in inputs]
    raise Invalid(f"image: set input to the input that takes the image, one of {listed(names)}; got {name!r}.")
