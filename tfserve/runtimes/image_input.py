"""What a model takes as an image: its layout, its size, its type and quantization, found out at the deployment."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import msgspec
import numpy as np

from tfserve.errors import Invalid
from tfserve.runtimes import image_spec
from tfserve.runtimes.image_spec import MODES, ImageSpec, Layout
from tfserve.tensors import DTYPES, Array, Quantization, Shape, TensorSpec

AXES: dict[Layout, tuple[int, int, int]] = {"NHWC": (1, 2, 3), "NCHW": (2, 3, 1)}
"""Where height, width and channels are."""

SMALLEST_SPAN = 8
"""An image that takes up fewer steps of an integer than this is lost."""
LEAST_HELD = 0.6
"""The least share of the values that an integer input must be able to hold; calibration may leave out some."""


@dataclass(frozen=True)
class ImageInput:
    """An input, and the description with everything filled in that was left open.

    `shape` is that of one image; `batch` the number of images that the model takes at once, None for any.
    """

    tensor: TensorSpec
    spec: ImageSpec
    shape: Shape
    batch: int | None
    remarks: tuple[str, ...] = ()

    @property
    def spatial_axes(self) -> tuple[int, int]:
        """Of one image as the model takes it."""
        return (1, 2) if len(self.shape) == 3 and self.spec.layout == "NCHW" else (0, 1)

    def arranged(self, values: Array) -> Array:
        """One image (height, width, channels) of float32 as the model takes it."""
        if self.spec.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        if len(self.shape) < 3:
            values = values.reshape(-1) if len(self.shape) == 1 else values[..., 0]
        return np.ascontiguousarray(_typed(values, self.tensor))


def fit(tensor: TensorSpec, spec: ImageSpec) -> ImageInput:
    """How `spec` fits the input `tensor`. Raises `Invalid`, which says what is missing or wrong."""
    spec = _sized(tensor, spec)
    image_spec.check_channels(spec)
    spec, remarks = _with_normalization(tensor, spec)
    sizes = {"H": spec.height or -1, "W": spec.width or -1, "C": spec.channels or 3}
    rank = 4 if tensor.shape is None else len(tensor.shape)
    names = {4: (spec.layout or "NHWC")[1:], 3: "HW"}.get(rank)
    shape = tuple(sizes[name] for name in names) if names else (prod(sizes.values()),)
    first = tensor.shape[0] if tensor.shape else -1
    return ImageInput(tensor, spec, shape, None if first == -1 else first, remarks)


# --- layout and sizes


def _sized(tensor: TensorSpec, spec: ImageSpec) -> ImageSpec:
    """The description with layout, height, width and channels."""
    rank = None if tensor.shape is None else len(tensor.shape)
    if rank == 4 or (rank is None and spec.layout):
        return _of_four(tensor, spec)
    if rank == 3:
        return _grey_without_channels(tensor, spec)
    if rank == 2:
        return _flattened(tensor, spec)
    if rank is None:
        raise Invalid(
            f'image: the input {tensor.name!r} accepts any shape. Add "layout": "NHWC" (channels last) or "NCHW", and'
            " height and width."
        )
    raise Invalid(f"image: the input {tensor.name!r} takes {tensor}, which has {rank} dimensions; an image has 2 to 4.")


def _of_four(tensor: TensorSpec, spec: ImageSpec) -> ImageSpec:
    shape = tensor.shape or (-1, -1, -1, -1)
    # A size that can be the number of channels shows the layout; with none of them all sizes together may.
    shown = [layout for layout in AXES if shape[AXES[layout][2]] in MODES] or list(AXES)
    layouts = [spec.layout] if spec.layout is not None else shown
    options = [found for layout in layouts if (found := _laid_out(shape, spec, layout))]
    if not options:
        raise Invalid(f"image says {_said(spec)}, but the model takes {tensor}.")
    if len(options) > 1:
        raise Invalid(
            f"image: the input {tensor.name!r} takes {tensor}, which does not show whether channels come last or first."
            ' Add "layout": "NHWC" (channels last) or "layout": "NCHW" (channels first).'
        )
    return options[0]


def _laid_out(shape: Shape, spec: ImageSpec, layout: Layout) -> ImageSpec | None:
    """The description with this layout; None if the shape excludes it."""
    sizes = [shape[axis] for axis in AXES[layout]]
    wanted = [spec.height, spec.width, spec.channels]
    if not all(want is None or size in (-1, want) for size, want in zip(sizes, wanted, strict=True)):
        return None
    height, width, channels = (
        want if want is not None else (None if size == -1 else size) for size, want in zip(sizes, wanted, strict=True)
    )
    if (channels or 3) not in MODES:
        return None
    return msgspec.structs.replace(spec, layout=layout, height=height, width=width, channels=channels or 3)


def _grey_without_channels(tensor: TensorSpec, spec: ImageSpec) -> ImageSpec:
    """(count, height, width). A colour image without a count looks alike, and is not meant."""
    shape = tensor.shape or ()
    is_clear = shape[0] in (-1, 1) and -1 not in shape[1:] and not {*shape[1:]} & {*MODES}
    if spec.channels not in (None, 1) or not (is_clear or (spec.channels == 1 and shape[0] in (-1, 1))):
        raise Invalid(
            f"image: the input {tensor.name!r} takes {tensor}. With 3 dimensions these must be (count, height, width)"
            ' of grey images; if they are, add "channels": 1 with height and width.'
        )
    for name, size in zip(("height", "width"), shape[1:], strict=True):
        given = getattr(spec, name)
        if given is not None and size not in (-1, given):
            raise Invalid(f"image says {_said(spec)}, but the model takes {tensor}.")
        spec = msgspec.structs.replace(spec, **{name: given if given is not None else None if size == -1 else size})
    return msgspec.structs.replace(spec, channels=1, layout="NHWC")


def _flattened(tensor: TensorSpec, spec: ImageSpec) -> ImageSpec:
    """(count, height * width * channels)."""
    values = (tensor.shape or (-1, -1))[1]
    if spec.height is None or spec.width is None:
        raise Invalid(
            f"image: the input {tensor.name!r} takes {tensor}, flattened images: give their height and width."
        )
    area = spec.height * spec.width
    channels = spec.channels or (values // area if values != -1 and values // area in MODES else 3)
    if values not in (-1, area * channels):
        raise Invalid(
            f"image says {_said(spec)}, which is {area * channels} values with {channels} channels, but the model takes"
            f" {tensor}."
        )
    if channels > 1 and spec.layout is None:
        raise Invalid(
            f"image: the input {tensor.name!r} takes {tensor}, flattened images of {channels} channels. Add"
            ' "layout": "NHWC" if the channels of a pixel are next to each other, else "NCHW".'
        )
    return msgspec.structs.replace(spec, channels=channels, layout=spec.layout or "NHWC")


def _said(spec: ImageSpec) -> str:
    sizes = {"height": spec.height, "width": spec.width, "channels": spec.channels, "layout": spec.layout}
    return ", ".join(f"{name} {value}" for name, value in sizes.items() if value is not None) or "nothing of sizes"


# --- values


def _with_normalization(tensor: TensorSpec, spec: ImageSpec) -> tuple[ImageSpec, tuple[str, ...]]:
    """Checks that the input's type can hold the values; an unsaid normalization may follow from a quantization."""
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None or dtype.kind not in ("int", "float"):
        raise Invalid(f"image: the input {tensor.name!r} takes {tensor}; pixels are numbers.")
    if dtype.kind == "float":
        return spec, ()
    remarks: tuple[str, ...] = ()
    if tensor.quantization is not None and not spec.is_normalized:
        spec, remarks = _by_quantization(tensor, tensor.quantization, spec)
    _check_values(tensor, spec)
    return spec, remarks


def _check_values(tensor: TensorSpec, spec: ImageSpec) -> None:
    """Raises `Invalid` if the integers of the input can't hold the values: they would be cut off or rounded away."""
    dtype = DTYPES[tensor.dtype].numpy
    limits = np.iinfo(dtype)
    quantization = tensor.quantization or Quantization(1.0, 0)
    scale, zero_point = np.asarray(quantization.scale), np.asarray(quantization.zero_point, np.float64)
    low, high = scale * (limits.min - zero_point), scale * (limits.max - zero_point)
    black, white = spec.normalized(np.repeat(np.array([[0.0], [255.0]], np.float32), spec.channels or 3, axis=1))
    least, most = np.minimum(black, white), np.maximum(black, white)
    span = most - least
    held = np.minimum(most, high.max()) - np.maximum(least, low.min())
    if (held < LEAST_HELD * span).any():
        raise Invalid(
            f"image: the input {tensor.name!r} is {tensor.dtype} and holds {low.min():.4g} to {high.max():.4g}, but"
            f" pixels would become {least.min():.4g} to {most.max():.4g}. Give the scale and offset, or mean and std,"
            " that the model was trained with."
        )
    if (span < SMALLEST_SPAN * scale.max()).any():
        raise Invalid(
            f"image: the input {tensor.name!r} is {tensor.dtype}, whole numbers, but the normalization makes pixels"
            f" {least.min():.4g} to {most.max():.4g}, which would be rounded away. Give the one that the model was"
            " trained with."
        )


def _by_quantization(
    tensor: TensorSpec, quantization: Quantization, spec: ImageSpec
) -> tuple[ImageSpec, tuple[str, ...]]:
    """What the integers of the input can stand for shows which values the model was trained with."""
    limits = np.iinfo(DTYPES[tensor.dtype].numpy)
    if isinstance(quantization.scale, tuple) or isinstance(quantization.zero_point, tuple):
        raise Invalid(f"image: the input {tensor.name!r} is quantized per channel: give scale and offset.")
    low, high = (quantization.scale * (end - quantization.zero_point) for end in (int(limits.min), int(limits.max)))
    is_symmetric = tensor.dtype == "int16"  # half of it may be unused
    if high > 200 and (low > -32 or is_symmetric):
        return spec, ()
    for least, most, scale, offset in ((0, 1, 1 / 255, 0.0), (-1, 1, 1 / 127.5, -1.0)):
        if not is_symmetric and abs(low - least) < 0.1 and abs(high - most) < 0.1:
            remark = (
                f"Image files: pixels are scaled to {least} to {most}, as the quantization of the input"
                f" {tensor.name!r} suggests. If the model was trained otherwise, deploy it with scale and offset, or"
                " mean and std."
            )
            return msgspec.structs.replace(spec, scale=scale, offset=offset), (remark,)
    raise Invalid(
        f"image: the input {tensor.name!r} is quantized, for values from {low:.4g} to {high:.4g}. Give the scale and"
        " offset, or mean and std, that the model was trained with."
    )


def _typed(values: Array, tensor: TensorSpec) -> Array:
    dtype = DTYPES[tensor.dtype]
    if dtype.kind == "float":
        return values.astype(dtype.numpy, copy=False)
    if tensor.quantization is not None:
        # Its axis counts that of the images, too.
        (integers,) = tensor.quantization.quantized(values[np.newaxis], dtype.numpy)
        return np.asarray(integers)
    limits = np.iinfo(dtype.numpy)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype.numpy)
