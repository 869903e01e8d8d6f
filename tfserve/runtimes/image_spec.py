"""How an image file becomes an input, and what the outputs mean: given at a deployment, or read from the model."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

from tfserve.colours import colour
from tfserve.errors import Invalid
from tfserve.tensors.specs import Array

MAX_SIDE = 16_384
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for the number of channels."""

NORMALIZATION = ("scale", "offset", "mean", "std")
"""Fields that belong together: if one is given, none of the model's own applies."""

Layout = Literal["NHWC", "NCHW"]
PerChannel = float | list[float]


class ImageSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a file becomes an input: resized to `height` and `width`, then (value * `scale` - `mean`) / `std` + `offset`.

    Values of a file are 0 to 255. None means: as in the model's input, otherwise 3 channels and the size of the file.
    A list has one number for each channel, in the model's `channel_order`. `input` and `output` are names of the
    default signature; None means the only suitable one. `antialias` smooths when downscaling, like Pillow and our
    training; without it pixels are sampled like the default of `tf.image.resize`.

    `display` are the labels' display names, in the same order.

    `softmax` and `sigmoid` are applied to outputs that are logits. `mask_values` has the value in a mask for each
    class. `output_layout` is the position of a mask's classes. Transparent pixels of a file are composited over
    `background`, a colour's name or `#rrggbb`, unless the model takes 4 channels. `min_score` is the score below
    which a detector's boxes are left out of the response for a file over v1, unless the request says otherwise.
    """

    height: int | None = None
    width: int | None = None
    channels: int | None = None
    scale: PerChannel | None = None
    offset: PerChannel | None = None
    mean: PerChannel | None = None
    std: PerChannel | None = None
    layout: Layout | None = None
    channel_order: Literal["RGB", "BGR"] = "RGB"
    antialias: bool = True
    labels: list[str] = []
    display: list[str] = []
    task: Literal["classification", "segmentation", "detection"] = "classification"
    softmax: bool = False
    sigmoid: bool = False
    mask_values: list[int] = []
    output_layout: Layout | None = None
    min_score: float = 0.0
    background: str = "white"
    input: str | None = None
    output: str | None = None

    @property
    def is_normalized(self) -> bool:
        """Whether it specifies a normalization."""
        return any(getattr(self, name) is not None for name in NORMALIZATION)

    def normalized(self, pixels: Array) -> Array:
        """Float32 values of 0 to 255, with the channels last, as the model takes them. Changes `pixels`."""
        # All values of a row at once: a loop over the channels of each pixel would take several times as long.
        rows = pixels.reshape((len(pixels), -1)) if pixels.flags.c_contiguous else pixels
        if self.scale not in (None, 1.0):
            rows *= _repeated(self.scale, rows)
        if self.mean is not None:
            rows -= _repeated(self.mean, rows)
        if self.std is not None:
            rows /= _repeated(self.std, rows)
        if self.offset not in (None, 0.0):
            rows += _repeated(self.offset, rows)
        return pixels


def _repeated(value: PerChannel | None, rows: Array) -> Array:
    """The number, or the numbers of all channels, repeated for the values of a row."""
    values = np.asarray(value, np.float32)
    return np.tile(values, rows.shape[-1] // values.size) if values.ndim else values


def parse(given: dict[str, Any], where: str, *, defaults: dict[str, Any] | None = None) -> ImageSpec:
    """The description, with the model's own as defaults. `where` names it in messages.

    Raises `Invalid`.
    """
    own = dict(defaults or {})
    if given.get("labels") is not None:  # then the model's own display names belong to other labels
        own.pop("display", None)
    if any(given.get(name) is not None for name in NORMALIZATION):
        own = {name: value for name, value in own.items() if name not in NORMALIZATION}
    try:
        spec = msgspec.convert(own | given, ImageSpec)
    except msgspec.ValidationError as error:
        fields = ", ".join(ImageSpec.__struct_fields__)
        raise Invalid(f"{where} is not a valid image description: {error}. Its fields are {fields}.") from None
    for check in (_check_background, _check_sizes, _check_normalization, _check_outputs):
        check(spec, where)
    return spec


def _check_background(spec: ImageSpec, where: str) -> None:
    try:
        colour(spec.background)
    except Invalid as error:
        raise Invalid(f"{where}: {error.message}") from None


def _check_sizes(spec: ImageSpec, where: str) -> None:
    if spec.channels is not None and spec.channels not in MODES:
        raise Invalid(f"{where}: channels must be 1, 3 or 4, got {spec.channels}.")
    if spec.channel_order == "BGR" and spec.channels == 1:
        raise Invalid(f"{where}: channel_order is BGR, but there is only one channel. Leave channel_order out.")
    for name, side in (("height", spec.height), ("width", spec.width)):
        if side is not None and not 1 <= side <= MAX_SIDE:
            raise Invalid(f"{where}: {name} must be from 1 to {MAX_SIDE} pixels, got {side}.")


def _check_normalization(spec: ImageSpec, where: str) -> None:
    for name in NORMALIZATION:
        value = getattr(spec, name)
        if value is not None and not np.isfinite(np.asarray(value, np.float64)).all():
            raise Invalid(f"{where}: {name} must be finite.")
    if spec.offset is not None and (spec.mean is not None or spec.std is not None):
        raise Invalid(f"{where}: give either offset (added after scale) or mean and std, not both.")
    if spec.std is not None and not np.all(np.asarray(spec.std)):
        raise Invalid(f"{where}: std must not be 0, because pixels are divided by it.")
    if spec.scale is None and spec.mean is not None and _is_of_one(spec.mean, spec.std):
        raise Invalid(
            f"{where}: mean and std apply to pixels from 0 to 255 unless scale changes them. These seem to be for"
            ' pixels from 0 to 1: add "scale": 0.00392156862745098 (1/255).'
        )


def _is_of_one(mean: PerChannel, std: PerChannel | None) -> bool:
    """Whether mean and std are meant for values from 0 to 1: 0.485 and 0.229, not 123.7 and 58.4, nor 0 and 255."""
    means, deviations = np.asarray(mean), np.asarray(1.0 if std is None else std)
    return bool((means > 0).any() and (means <= 1).all() and (deviations <= 1).all())


def _check_outputs(spec: ImageSpec, where: str) -> None:
    if spec.softmax and spec.sigmoid:
        raise Invalid(f"{where}: softmax and sigmoid exclude each other.")
    if spec.display and len(spec.display) != len(spec.labels):
        raise Invalid(
            f"{where}: display must have one name per label: expected {len(spec.labels)}, got {len(spec.display)}."
        )
    if spec.mask_values and spec.task != "segmentation":
        raise Invalid(f"{where}: mask_values are only allowed with task 'segmentation'.")
    if not all(0 <= value <= 255 for value in spec.mask_values):
        raise Invalid(f"{where}: mask_values must be integers from 0 to 255.")


def check_channels(spec: ImageSpec) -> None:
    """Raises `Invalid` unless lists have a number for each channel, which must be known."""
    for name in NORMALIZATION:
        value = getattr(spec, name)
        if isinstance(value, list) and len(value) != spec.channels:
            raise Invalid(f"image: {name} must be one number or {spec.channels} (one per channel), got {len(value)}.")
    if spec.channel_order == "BGR" and spec.channels == 1:
        raise Invalid("image: channel_order is BGR, but the model takes only one channel. Leave channel_order out.")
