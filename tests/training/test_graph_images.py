"""The SavedModel's own decoding of files, inside TensorFlow's graph, gives the pixels that training and serving see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_images import encoded, picture, see_through, turned
from PIL import Image

tf = pytest.importorskip("tensorflow")

from tfserve.runtimes import decoding, image_files  # noqa: E402
from tfserve.training.export import graph_images  # noqa: E402

SCARLET = (220, 40, 30)


@pytest.fixture(scope="module")
def decoded() -> Any:
    """Decodes in one graph for all tests."""

    def compute(data: Any) -> Any:
        return graph_images.decoded(data, SCARLET), graph_images.decoded(data, (255, 255, 255), (60, 80))

    function = tf.function(compute, input_signature=[tf.TensorSpec((), tf.string)])
    return lambda data: [each.numpy() for each in function(tf.constant(data))]


@pytest.fixture(scope="module")
def orientation() -> Any:
    function = tf.function(graph_images.orientation, input_signature=[tf.TensorSpec((), tf.string)])
    return lambda data: function(tf.constant(data)).numpy()


def check(decoded: Any, data: bytes) -> None:
    whole, scaled = decoded(data)
    expected = np.asarray(image_files.read(data, background=SCARLET).image)
    assert whole.shape == expected.shape
    assert np.abs(whole - expected).max() <= 1
    near = np.asarray(image_files.read(data, near=(80, 60)).image)
    assert scaled.shape == near.shape
    assert np.abs(scaled - near).max() <= 1


@pytest.mark.parametrize("rotation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_is_followed(decoded: Any, orientation: Any, form: str, rotation: int) -> None:
    data = turned(picture(), form, rotation)
    assert orientation(data) == rotation
    check(decoded, data)


@pytest.mark.parametrize("width", [150, 170, 330, 700, 1500])
@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpegs_are_decoded_at_the_same_fraction(decoded: Any, width: int, orientation: int) -> None:
    check(decoded, turned(picture(width, width * 3 // 4 + 1), "JPEG", orientation))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_mode(decoded: Any, mode: str) -> None:
    check(decoded, encoded(picture().convert(mode), "JPEG"))


def test_a_cmyk_jpeg_without_adobes_mark(decoded: Any) -> None:
    data = encoded(picture().convert("CMYK"), "JPEG")
    at = data.index(b"\xff\xee")
    without = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    assert b"Adobe" not in without
    check(decoded, without)
    assert (decoded(without)[0] == decoded(data)[0]).all()


@pytest.mark.parametrize(("form", "mode"), [("BMP", "P"), ("BMP", "L"), ("BMP", "RGBA")])
def test_a_bmp_that_tensorflow_would_decode_wrongly_is_an_error(decoded: Any, form: str, mode: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="save it with 24 bits, or as PNG"):
        decoded(encoded(picture().convert(mode), form))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_pngs_of_every_mode(decoded: Any, mode: str) -> None:
    check(decoded, encoded(see_through(picture()).convert(mode), "PNG"))


def test_sixteen_bits_and_transparent_palettes(decoded: Any) -> None:
    check(decoded, encoded(Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)), "PNG"))
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.paste(2, (0, 0, 4, 4))
    for transparent in (1, 2):
        check(decoded, encoded(image, "PNG", transparency=transparent))
        check(decoded, encoded(image, "GIF", transparency=transparent))
    check(decoded, encoded(image, "GIF", transparency=2, comment=b"21F904" * 99))


def test_animations_and_webp(decoded: Any) -> None:
    more = {"save_all": True, "append_images": [picture(seed=1)]}
    for form in ("PNG", "GIF", "WEBP"):
        check(decoded, encoded(picture(), form, **more))
    check(decoded, encoded(see_through(picture()), "WEBP"))
    check(decoded, encoded(picture(), "MPO", **more))


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\1\3\0"],
)
def test_a_damaged_tag_is_no_orientation(orientation: Any, exif: bytes) -> None:
    data = encoded(picture(), "JPEG", exif=exif)
    assert orientation(data) == 1
    for end in range(0, 60, 3):
        assert orientation(data[:end]) == 1


def test_what_tensorflow_can_not_decode_is_replaced_by_the_same_pixels(tmp_path: Path) -> None:
    for form, mode in (("TIFF", "CMYK"), ("BMP", "P"), ("HEIF", "RGB")):
        file = tmp_path / "a.file"
        file.write_bytes(encoded(picture().convert(mode), form))
        assert not graph_images.reads(file.read_bytes())
        data = graph_images.readable(file.read_bytes(), SCARLET)
        assert graph_images.reads(data)
        assert (np.asarray(image_files.read(data).image) == np.asarray(image_files.read(file.read_bytes()).image)).all()
    file.write_bytes(encoded(picture(), "BMP"))
    assert graph_images.readable(file.read_bytes(), SCARLET) == file.read_bytes()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(224, 224), (10, 7), (300, 200), (1, 1)], ids=str)
def test_resizing_has_the_roundings_of_tensorflow(channels: int, size: tuple[int, int]) -> None:
    for height, width in ((48, 64), (7, 10), (1, 1), (500, 3), (90, 451)):
        values = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
        expected = tf.image.resize(values, size[::-1]).numpy()
        assert np.abs(decoding.resized(values, size) - expected).max() <= 1e-4
