"""Image files become pixels in one way, whatever they are."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_images import encoded, over, picture, see_through, turned
from PIL import Image

from tfserve.errors import Invalid
from tfserve.runtimes import decoding, image_files, image_spec
from tfserve.runtimes.image_files import BadImage
from tfserve.training import images

LOSSLESS = ("PNG", "WEBP", "TIFF")


def read(data: bytes, **options: Any) -> Any:
    return np.asarray(image_files.read(data, **options).image).astype(int)


def distance(found: Any, expected: Any) -> float:
    expected = np.asarray(expected).astype(int)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", *LOSSLESS, "HEIF", "AVIF"])
def test_every_orientation_is_followed(form: str, orientation: int) -> None:
    upright = picture(64, 48)
    data = turned(upright, form, orientation)
    assert distance(read(data), upright) <= {"HEIF": 24, "AVIF": 24, "JPEG": 4}.get(form, 0)
    assert image_files.read(data).size == (64, 48)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_large_jpeg_is_decoded_scaled_and_upright(orientation: int) -> None:
    upright = picture(1200, 800)
    found = image_files.read(turned(upright, "JPEG", orientation), near=(150, 100))
    assert found.image.size == (300, 200)
    assert found.size == (1200, 800)
    assert distance(np.asarray(found.image).astype(int), upright.resize((300, 200), Image.Resampling.BOX)) <= 4


@pytest.mark.filterwarnings("default")  # Pillow warns of it
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"garbage" * 9])
def test_a_damaged_tag_leaves_the_pixels_as_they_are(exif: bytes) -> None:
    data = encoded(picture(), "JPEG", exif=exif)
    assert distance(read(data), picture()) <= 4


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert distance(read(encoded(picture(), "JPEG", exif=exif.tobytes())), picture()) <= 4


# --- transparency


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (200, 30, 90)])
@pytest.mark.parametrize(("form", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "RGBA")])
def test_transparency_is_composited_over_the_background(form: str, mode: str, background: Any) -> None:
    image = see_through(picture(), mode)
    data = encoded(image, form, **({"exact": True} if form == "WEBP" else {}))
    found = image_files.read(data, background=background)
    assert found.has_alpha
    assert distance(np.asarray(found.image).astype(int), over(image, background).round()) <= 1


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_becomes_the_background(form: str) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.paste(2, (0, 0, 4, 4))
    found = read(encoded(image, form, transparency=2))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[7, 7].tolist() == [0, 255, 0]


def test_a_model_of_four_channels_gets_the_transparency_itself() -> None:
    image = see_through(picture())
    assert distance(read(encoded(image, "PNG"), mode="RGBA"), image) == 0


def test_a_deployment_says_what_transparency_is_composited_over() -> None:
    data = encoded(see_through(picture()), "PNG")
    black = decoding.decode(image_spec.parse({"background": "#000000"}, "image"), 0, data)[0]
    white = decoding.decode(image_spec.parse({}, "image"), 0, data)[0]
    assert (black[0, 0].tolist(), white[0, 0].tolist()) == ([0, 0, 0], [255, 255, 255])
    for wrong in ("", "see through", "#12", "#11223344", "\0"):
        with pytest.raises(Invalid, match=r"image: background: a colour such as 'white' or '#rrggbb' was expected"):
            image_spec.parse({"background": wrong}, "image")


# --- formats


@pytest.mark.parametrize(
    ("form", "mode"),
    [("JPEG", "L"), ("PNG", "1"), ("PNG", "P"), ("GIF", "P"), ("BMP", "P"), ("BMP", "1"), ("BMP", "L"), ("TIFF", "L"),
     ("TIFF", "1"), ("TIFF", "P"), ("WEBP", "L"), ("HEIF", "L"), ("AVIF", "RGB")],
)  # fmt: skip
def test_grey_and_palette_images_become_colours(form: str, mode: str) -> None:
    image = picture().convert(mode)
    found = image_files.read(encoded(image, form))
    assert distance(np.asarray(found.image).astype(int), image.convert("RGB")) <= (
        24 if form in ("HEIF", "AVIF") else 4
    )
    if form not in ("WEBP", "HEIF"):
        assert found.grey is (mode in ("L", "1"))


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_becomes_the_colours_it_prints(form: str) -> None:
    red = Image.new("RGB", (32, 32), (220, 40, 30))
    found = read(encoded(red.convert("CMYK"), form))
    assert np.abs(found - [220, 40, 30]).max() <= 6


def test_cmyk_without_adobes_marker_is_read_as_browsers_do() -> None:
    data = encoded(Image.new("RGB", (32, 32), (220, 40, 30)).convert("CMYK"), "JPEG")
    start = data.index(b"\xff\xee")
    without = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    assert (read(without) == read(data)).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(form: str) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    found = image_files.read(encoded(Image.fromarray(values), form))
    assert found.grey
    assert distance(np.asarray(found.image)[..., 0].astype(int), values // 256) == 0


def test_sixteen_bits_of_colours_are_scaled() -> None:
    values = np.random.default_rng(1).integers(0, 65536, (4, 5, 3)).astype(">u2")
    assert distance(read(png16(values)), values // 256) <= 1


def png16(values: Any) -> bytes:
    """A PNG of 16 bits for each colour, which Pillow can't write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_an_animation_the_first_picture_counts(form: str) -> None:
    first, second = Image.new("RGB", (32, 32), (250, 0, 0)), Image.new("RGB", (32, 32), (0, 0, 250))
    data = encoded(first, form, save_all=True, append_images=[second])
    assert np.abs(read(data) - [250, 0, 0]).max() <= 8
    assert image_files.is_animated(data)
    assert not image_files.is_animated(encoded(first, form))


def test_the_photograph_of_an_mpo_is_read_without_its_preview() -> None:
    data = encoded(picture(200, 100), "MPO", save_all=True, append_images=[picture(20, 10, seed=1)])
    assert image_files.format_of(data[:64]) == "JPEG"
    assert distance(read(data), picture(200, 100)) <= 16
    assert not image_files.is_animated(data)


def test_lab_colours_are_converted() -> None:
    lab = Image.new("LAB", (8, 8), (137, 128, 128))  # a middle grey
    grey = read(encoded(lab, "TIFF"))
    assert np.ptp(grey) <= 6
    assert 110 < grey.mean() < 150


# --- what can't be read


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_a_truncated_file_is_an_error_and_never_half_an_image(form: str) -> None:
    data = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)), form)
    for share in (0.05, 0.3, 0.6, 0.9):
        with pytest.raises(BadImage):
            image_files.read(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"), (b"%PDF-1.7", "not an image"),
        (b"BM is a word", "not an image"), (b"\xff\xd8\xff" + bytes(99), "corrupt"), (b"GIF89a", "corrupt"),
        (b"II*\0" + bytes(99), "corrupt"), (b"\0\0\0\x18ftypheic" + bytes(99), "corrupt"),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(99), "corrupt"), (b"\0\0\0\x18ftypmp42" + bytes(99), "not an image"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        image_files.read(data)


def test_values_of_unknown_range_are_refused() -> None:
    for dtype in (np.int32, np.float32):
        data = encoded(Image.fromarray(np.arange(16, dtype=dtype).reshape(4, 4)), "TIFF")
        with pytest.raises(BadImage, match="32 bits per channel"):
            image_files.read(data)


@pytest.mark.parametrize("mark", ["dng", "cr2", "preview"])
def test_raw_camera_data_is_refused_since_only_its_preview_could_be_read(mark: str) -> None:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    if mark == "dng":
        tags[50706] = b"\1\4\0\0"
        tags.tagtype[50706] = 1
    elif mark == "preview":
        tags[254] = 1
    data = encoded(picture(), "TIFF", tiffinfo=tags)
    if mark == "cr2":
        data = encoded(picture(), "TIFF")
        data = data[:8] + b"CR" + data[10:]
    with pytest.raises(BadImage):
        image_files.read(data)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "GIF"])
def test_decompression_bombs_are_refused_by_the_header(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MAX_PIXELS", 48 * 32 - 1)
    with pytest.raises(BadImage, match="huge: 48x32 pixels"):
        image_files.read(encoded(picture(), form))
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(BadImage, match="huge: 0 MiB"):
        image_files.read(encoded(picture(), form))


def test_heic_without_its_library_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture(), "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadImage, match="pip install pillow-heif"):
        image_files.read(data)


# --- training and serving


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("width", "height"), [(48, 32), (640, 480), (1300, 900)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_training_and_serving_see_the_same_pixels(
    tmp_path: Path, form: str, width: int, height: int, orientation: int
) -> None:
    file = tmp_path / "photograph"
    file.write_bytes(turned(picture(width, height), form, orientation))
    trained = images.pixels(file, (60, 80))
    spec = image_spec.parse({"height": 60, "width": 80}, "image")
    served, size = decoding.decode(spec, 0, file.read_bytes())
    assert (served == trained).all()
    assert size == (height, width)


def test_a_look_shows_whether_only_the_transparency_has_a_shape(tmp_path: Path) -> None:
    def look(image: Image.Image, **options: Any) -> images.Look:
        file = tmp_path / "a.png"
        file.write_bytes(encoded(image, "PNG"))
        return images.look(file, **options)

    def icon(colour: tuple[int, int, int]) -> Image.Image:
        image = Image.new("RGBA", (32, 32), (*colour, 0))
        image.paste((*colour, 255), (8, 8, 20, 20))
        return image

    black, white = look(icon((0, 0, 0))), look(icon((255, 255, 255)))
    assert (black.shape_in_alpha, black.blank) == (True, False)
    assert (white.shape_in_alpha, white.blank) == (True, True)
    assert not look(icon((255, 255, 255)), background=(0, 0, 0)).blank
    photograph = look(see_through(picture(32, 32)))
    assert (photograph.shape_in_alpha, photograph.blank) == (False, False)
    opaque = look(Image.new("RGBA", (32, 32), (9, 9, 9, 255)))
    assert (opaque.shape_in_alpha, opaque.blank) == (False, False)


def test_a_file_is_recognised_by_its_content(tmp_path: Path) -> None:
    for name, form in (("a.txt", "PNG"), ("b.JPG", "WEBP"), ("c", "TIFF")):
        (tmp_path / name).write_bytes(encoded(picture(), form))
        assert images.look(tmp_path / name).width == 48


def test_pixels_of_a_file_that_has_gone_raise_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        images.pixels(tmp_path / "gone.png", (8, 8))
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(OSError, match="not an image"):
        images.pixels(tmp_path / "bad.png", (8, 8))


@pytest.mark.parametrize(
    ("form", "expected"),
    [("JPEG", (48, 32, 6)), ("MPO", (48, 32, 6)), ("PNG", (48, 32, 6)), ("WEBP", (48, 32, 6)), ("TIFF", (32, 48, 1)),
     ("HEIF", (32, 48, 1))],
)  # fmt: skip
def test_the_stored_size_and_orientation_of_every_format(form: str, expected: tuple[int, int, int]) -> None:
    data = turned(picture(32, 48), form, 6)
    size, orientation = image_files.stored(data)
    assert (*size, orientation) == expected
    assert image_files.read(data).size == (32, 48)
