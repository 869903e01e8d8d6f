"""JPEG files give the pixels and the errors that they give with Pillow alone, however they are encoded or damaged."""

from __future__ import annotations

import io
import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_images import picture, turned
from PIL import Image, ImageFile

from tfserve.runtimes import image_files, image_spec, jpeg_files
from tfserve.runtimes.image_files import BadImage

ENCODINGS: dict[str, dict[str, Any]] = {
    "4:4:4": {"quality": 90, "subsampling": 0}, "4:2:2": {"quality": 90, "subsampling": 1},
    "4:2:0": {"quality": 75, "subsampling": 2}, "coarse": {"quality": 5}, "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 3}, "RGB": {"keep_rgb": True}, "optimized": {"optimize": True},
}  # fmt: skip
SIZES = [(1, 1), (2, 3), (7, 5), (8, 8), (17, 9), (33, 31), (127, 65), (200, 133)]


def textured(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height))


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes, near: tuple[int, int] | None = None) -> Any:
    """The pixels; None if Pillow can't decode them."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
        if near is not None:
            image.draft("RGB", (2 * near[0], 2 * near[1]))
        return np.asarray(image.convert("RGB"))
    except Exception:  # a broken file can raise anything
        return None


def check(data: bytes, near: tuple[int, int] | None = None) -> None:
    expected = by_pillow(data, near)
    if expected is None:
        with pytest.raises(BadImage):
            image_files.read(data, near=near)
        with pytest.raises(BadImage):
            image_files.read_array(data)
        return
    assert np.array_equal(np.asarray(image_files.read(data, near=near).image), expected)
    if near is None:
        assert np.array_equal(image_files.read_array(data)[0], expected)


def is_fast(data: bytes) -> bool:
    return jpeg_files.pixels(data, Image.open(io.BytesIO(data))) is not None


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_and_size(encoding: str, size: tuple[int, int]) -> None:
    data = encoded(textured(*size), **ENCODINGS[encoding])
    assert is_fast(data)
    for near in (None, (64, 64), (30, 20), (3, 5)):
        check(data, near)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_grey_and_printed_colours(size: tuple[int, int]) -> None:
    grey, cmyk = (encoded(textured(*size).convert(mode)) for mode in ("L", "CMYK"))
    assert is_fast(grey)
    assert not is_fast(cmyk)
    for near in (None, (16, 16)):
        check(grey, near)
        check(cmyk, near)
    assert np.array_equal(image_files.read_array(grey, mode="L")[0], np.asarray(Image.open(io.BytesIO(grey))))
    assert np.array_equal(image_files.read_array(cmyk)[0], by_pillow(cmyk))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_applies_to_arrays_too(orientation: int) -> None:
    data = turned(picture(64, 48), "JPEG", orientation)
    array, size = image_files.read_array(data)
    assert size == (64, 48)
    assert np.array_equal(array, np.asarray(image_files.read(data).image))


def test_damaged_files_are_refused_or_decoded_as_by_pillow() -> None:
    random_ = random.Random(5)
    files = [encoded(textured(90, 60), **options) for options in ENCODINGS.values()]
    files.append(encoded(textured(90, 60).convert("L")))
    refused = 0
    for _ in range(600):
        data = bytearray(random_.choice(files))
        for _ in range(random_.choice([1, 1, 3])):
            at = random_.randrange(len(data))
            how = random_.randrange(4)
            if how == 0:
                del data[at:]
            elif how == 1:
                del data[at : at + 9]
            else:
                data[at:at] = random_.randbytes(how - 2)
                data[at : at + 1] = random_.randbytes(1)
            data = data or bytearray(b"\xff\xd8\xff")
        refused += by_pillow(bytes(data)) is None
        check(bytes(data), random_.choice([None, (16, 16)]))
    assert 100 < refused < 500


def test_photographs_in_installed_packages() -> None:
    found = 0
    for package in ("matplotlib", "skimage", "sklearn"):
        if (spec := find_spec(package)) and spec.origin:
            for file in sorted(Path(spec.origin).parent.rglob("*.jp*g")):
                check(file.read_bytes())
                check(file.read_bytes(), (100, 100))
                found += 1
    if not found:
        pytest.skip("matplotlib, scikit-image and scikit-learn are not installed")


def test_the_limit_of_pixels_applies_to_the_size_in_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(textured(64, 48))
    monkeypatch.setattr(image_files, "MAX_PIXELS", 64 * 48 - 1)
    for read in (image_files.read, image_files.read_array):
        with pytest.raises(BadImage, match="huge: 64x48 pixels"):
            read(data)


def test_a_normalization_per_channel_is_that_of_each_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.float32)
    mean, std, scale = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 1 / 255
    spec = image_spec.parse({"channels": 3, "scale": scale, "mean": mean, "std": std}, "image")
    expected = (pixels * np.float32(scale) - np.float32(mean)) / np.float32(std)
    assert np.array_equal(spec.normalized(pixels.copy()), expected)
    assert np.array_equal(spec.normalized(pixels.copy().transpose(1, 0, 2)), expected.transpose(1, 0, 2))
