"""How an image file becomes an input: what our training writes beside a model, or what is given at a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from tfserve.errors import Invalid

BESIDE = Path("assets.extra") / "image.json"
MAX_SIDE = 16_384
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for so many channels."""


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
