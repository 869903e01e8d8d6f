"""What the outputs of a model of images mean: probabilities with labels, or masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfserve.errors import Invalid
from tfserve.runtimes import image_boxes
from tfserve.runtimes.decoding import resized
from tfserve.runtimes.image_spec import ImageSpec, Layout
from tfserve.runtimes.interface import listed
from tfserve.tensors import DTYPES, Array, Shape, TensorSpec

ALMOST = 1e-3
"""How far a probability may lie outside 0 to 1, by rounding."""
CLASS_AXES: dict[Layout, int] = {"NHWC": 2, "NCHW": 0}
"""Where the classes of one mask are."""

_LOGIT = ' If the output is a logit, add "sigmoid": true.'


def choose_all(outputs: Sequence[TensorSpec], spec: ImageSpec) -> list[TensorSpec]:
    """The outputs that are meant: four of a detector, else one. Raises `Invalid`."""
    return image_boxes.choose(outputs) if spec.task == "detection" else [choose(outputs, spec)]


def choose(outputs: Sequence[TensorSpec], spec: ImageSpec) -> TensorSpec:
    """The output that is meant. Raises `Invalid` if there is none, or if more than one could be meant."""
    if spec.output is not None:
        named = [each for each in outputs if each.name == spec.output]
        if not named:
            raise Invalid(f"image: there is no output {spec.output!r}. There are: {listed([o.name for o in outputs])}.")
        check(named[0], spec)
        return named[0]
    problems: list[str] = []
    fitting = [each for each in outputs if _fits(each, spec, problems)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise Invalid(problems[0] if len(problems) == 1 else f"image: no output fits. {' '.join(problems[:3])}")
    raise Invalid(
        f"image: more than one output could be meant. Add output: one of {listed([o.name for o in fitting])}."
    )


def _fits(output: TensorSpec, spec: ImageSpec, problems: list[str]) -> bool:
    try:
        check(output, spec)
    except Invalid as error:
        problems.append(error.message)
        return False
    return True


def check(output: TensorSpec, spec: ImageSpec) -> None:
    """Raises `Invalid` if an output of this type and shape can't be what `spec` says."""
    dtype = DTYPES.get(output.dtype)
    is_real = dtype is not None and (dtype.kind == "float" or output.quantization is not None)
    if spec.task == "segmentation":
        if dtype is None or dtype.kind == "string" or (output.shape is not None and len(output.shape) not in (3, 4)):
            raise Invalid(f"image: the output {output.name!r} is {output}; a mask has 3 or 4 dimensions, of numbers.")
        _check_mask(output, spec)
        return
    if not is_real:
        raise Invalid(f"image: the output {output.name!r} is {output}; probabilities are floats, or quantized.")
    classes = _classes_of(output)
    if classes is not None:
        check_classes(classes, output.name, spec)


def _check_mask(output: TensorSpec, spec: ImageSpec) -> None:
    """The number of classes, where the shapes show it before anything is computed."""
    shape = (output.shape or ())[1:]
    if len(shape) != 3 or -1 in shape or not spec.height or not spec.width:
        return
    classes = shape[CLASS_AXES[_output_layout(shape, spec, (spec.height, spec.width), output.name)]]
    if classes > 1:
        _check_mask_classes(classes, spec, output.name)


def _classes_of(output: TensorSpec) -> int | None:
    """The number of classes, None where it is open."""
    if output.shape is None:
        return None
    shape = output.shape[1:] if len(output.shape) != 1 or output.shape[0] in (-1, 1) else output.shape
    sizes = [size for size in shape if size != 1]
    if len([size for size in sizes if size != -1]) > 1 or len(sizes) > 3:
        raise Invalid(
            f"image: the output {output.name!r} is {output}, which is more than one number for each class. For masks"
            ' add "task": "segmentation".'
        )
    return None if -1 in sizes else sizes[0] if sizes else 1


def check_classes(classes: int, name: str, spec: ImageSpec) -> None:
    """Raises `Invalid` if the labels are not as many as the classes; one probability may have two labels."""
    labels = len(spec.labels)
    if classes == 1 and spec.softmax:
        raise Invalid(f"image: softmax of the one value of {name!r} is always 1. Use sigmoid instead.")
    if labels and labels != classes and not (classes == 1 and labels == 2):
        raise Invalid(
            f"image: labels has {labels}, but the output {name!r} has {classes} classes."
            " Give one label for each, in the order of the output."
        )


def probabilities(raw: Array, output: TensorSpec, spec: ImageSpec, *, count: int) -> Array:
    """(count, classes) float32 from an output for `count` images. Raises `Invalid` if it does not fit the labels.

    One value with two labels is the second label's probability.
    """
    values = _per_image(real(raw, output), output.name, count)
    check_classes(values.shape[1], output.name, spec)
    if spec.softmax:
        return _softmax(values)
    if spec.sigmoid:
        values = _sigmoid(values)
    if values.shape[1] == 1 and len(spec.labels) == 2:
        _check_range(values, output.name)
        return np.concatenate([1 - values, values], axis=1)
    return values


def _per_image(values: Array, name: str, count: int) -> Array:
    if values.ndim == 0 or (values.ndim == 1 and count == 1):
        values = values.reshape(1, -1)
    rest = [size for size in values.shape[1:] if size != 1]
    if values.shape[0] != count or len(rest) > 1:
        raise Invalid(
            f"The output {name!r} has the shape {list(values.shape)} for {count} images: not one number for each class."
        )
    return values.reshape(count, -1)


def mask(raw: Array, output: TensorSpec, spec: ImageSpec, *, seen: tuple[int, int], size: tuple[int, int]) -> Array:
    """The mask (height, width) uint8 of one file.

    `raw` is the output for one image that the model has seen with the height and width `seen`; `size` is the file's
    own. Probabilities of classes are resized before the largest is chosen, class numbers as they are.
    """
    values = raw[0] if raw.ndim and raw.shape[0] == 1 else raw
    if values.ndim not in (2, 3):
        raise Invalid(f"The output {output.name!r} has the shape {list(raw.shape)}, which is no mask.")
    is_integer = output.quantization is None and values.dtype.kind in "biu"
    values = values if is_integer else real(values, output)
    if values.ndim == 3:
        axis = CLASS_AXES[_output_layout(values.shape, spec, seen, output.name)]
        values = np.moveaxis(values, axis, 2)
    classes = 1 if values.ndim == 2 else values.shape[2]
    if classes > 1:
        _check_mask_classes(classes, spec, output.name)
        return _with_values(_largest(values, size), spec)
    flat = values.reshape(values.shape[:2])
    return _with_values(_one_channel(flat, spec, output.name, size), spec)


def _output_layout(shape: Shape, spec: ImageSpec, seen: tuple[int, int], name: str) -> Layout:
    """Where the classes of (a, b, c) are: as given, or by the size of the image, or by their number."""
    if spec.output_layout is not None:
        return spec.output_layout
    labels = {len(spec.labels) or len(spec.mask_values)} - {0}
    rules = (
        lambda _, place: place == seen,
        lambda classes, _: classes in labels,
        lambda _, place: place[0] * seen[1] == place[1] * seen[0],
        lambda classes, _: classes == 1,
    )
    places: dict[Layout, tuple[int, tuple[int, int]]] = {
        "NHWC": (shape[2], (shape[0], shape[1])), "NCHW": (shape[0], (shape[1], shape[2])),
    }  # fmt: skip
    for rule in rules:
        fitting = [layout for layout, place in places.items() if rule(*place)]
        if len(fitting) == 1:
            return fitting[0]
    raise Invalid(
        f"The output {name!r} has the shape {list(shape)} for an image of {seen[0]}x{seen[1]}, which does not show"
        ' where the classes are. Deploy the model with "output_layout": "NHWC" (last) or "NCHW" (first) in image.'
    )


def _check_mask_classes(classes: int, spec: ImageSpec, name: str) -> None:
    for field, values in (("labels", spec.labels), ("mask_values", spec.mask_values)):
        if values and len(values) != classes:
            raise Invalid(f"image: {field} has {len(values)}, but the output {name!r} has {classes} classes.")
    if classes > 256:
        raise Invalid(f"The output {name!r} has {classes} classes; a mask holds 256 at most.")


def _largest(values: Array, size: tuple[int, int]) -> Array:
    """Class numbers of the size (height, width). One class at a time, since all of a large file would take too much."""
    best = _resized(values[..., 0], size)
    found = np.zeros(size, np.uint8)
    for n in range(1, values.shape[2]):
        each = _resized(values[..., n], size)
        found[each > best] = n
        np.maximum(best, each, out=best)
    return found


def _one_channel(values: Array, spec: ImageSpec, name: str, size: tuple[int, int]) -> Array:
    """Class numbers from class numbers, or from probabilities of the second class."""
    if values.dtype.kind in "biu":
        return _numbers(values, name, size)
    if spec.sigmoid:
        values = _sigmoid(values)
    elif values.size and values.max() > 1 + ALMOST and (values == np.rint(values)).all() and values.min() >= 0:
        return _numbers(values, name, size)
    _check_range(values, name)
    return (_resized(values, size) >= 0.5).astype(np.uint8)


def _numbers(values: Array, name: str, size: tuple[int, int]) -> Array:
    from PIL import Image

    if values.size and (values.min() < 0 or values.max() > 255):
        raise Invalid(f"The output {name!r} has values from {values.min()} to {values.max()}; a mask holds 0 to 255.")
    image = Image.fromarray(values.astype(np.uint8))
    return np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST) if image.size != size[::-1] else image)


def _with_values(numbers: Array, spec: ImageSpec) -> Array:
    """A mask with the values that the classes have in `mask_values`."""
    if not spec.mask_values:
        return numbers
    if numbers.size and int(numbers.max()) >= len(spec.mask_values):
        raise Invalid(
            f"image: mask_values has {len(spec.mask_values)}, but the model found the class {int(numbers.max())}."
        )
    return np.asarray(spec.mask_values, np.uint8)[numbers]


def _resized(values: Array, size: tuple[int, int]) -> Array:
    if values.shape == size:
        return values.astype(np.float32)
    return resized(values[..., np.newaxis], size[::-1])[..., 0]


def real(raw: Array, output: TensorSpec) -> Array:
    """Float32 values, of an output that may be quantized."""
    values = raw if output.quantization is None else output.quantization.real(raw)
    return values.astype(np.float32, copy=False)


def _softmax(values: Array) -> Array:
    powers: Array = np.exp(values - values.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _sigmoid(values: Array) -> Array:
    with np.errstate(over="ignore"):
        found: Array = 1 / (1 + np.exp(-values))
    return found


def _check_range(values: Array, name: str) -> None:
    if values.size and not (values.min() >= -ALMOST and values.max() <= 1 + ALMOST):
        raise Invalid(
            f"The output {name!r} has values from {values.min():.4g} to {values.max():.4g}, which are no"
            f" probabilities.{_LOGIT}"
        )
