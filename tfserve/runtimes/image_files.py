"""Decodes the bytes of image files to pixels, in the same way for training and serving.

The format is recognised by content. Of several images in a file the first one is used (for HEIC the primary one).
EXIF orientation is applied, transparency is composited over a background, and everything becomes 8 bits per channel:
16-bit values keep their high byte. Colour profiles are not applied, except for Lab. A JPEG is decoded at a half, a
quarter or an eighth of its size when a much smaller image is needed. `jpeg_files` decodes ordinary JPEG files faster
than Pillow, to the same pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from tfserve.colours import Colour
from tfserve.runtimes import jpeg_files, other_formats
from tfserve.runtimes.error_summary import cause
from tfserve.tensors.specs import Array

MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 256 * 1024 * 1024
"""The limits of an image, in training as in serving."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", "HEIC", "AVIF")
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif",
    ".hif", ".avif",
)  # fmt: skip
HEAD_BYTES = 64
"""Enough of a file to recognise its format."""
WHITE = (255, 255, 255)

Size = tuple[int, int]
"""Width and height, in Pillow's order."""

_PILLOW = {"JPEG": None, "PNG": None, "GIF": None, "BMP": None, "WebP": "PIL.WebPImagePlugin",
           "TIFF": "PIL.TiffImagePlugin", "AVIF": "PIL.AvifImagePlugin"}  # fmt: skip
"""The formats that Pillow reads itself, with the module to import first. Pillow would import its readers of all
formats, some of which start programs."""
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"heif"}
_AVIF_BRANDS = {b"avif", b"avis"}
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SUBFILE_TYPE, _BITS, _DNG_VERSION, _ORIENTATION = 254, 258, 50706, 0x0112
_MAX_CAUSE = 120


class BadImage(Exception):
    """The file can't be used; the message is the reason."""


class Picture(NamedTuple):
    """`image` is a Pillow image: upright, in the requested mode, maybe decoded at a fraction of the size.

    `size` is the file's own width and height, upright. `has_alpha` says that some pixels are not opaque.
    """

    image: Any
    size: Size
    grey: bool
    has_alpha: bool


def format_of(head: bytes) -> str | None:
    """One of `FORMATS` by the first bytes of a file, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(_TIFF_HEADS):
        return "TIFF"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return _iso_format(head) if head[4:8] == b"ftyp" else None


def _iso_format(head: bytes) -> str | None:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    return "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIC_BRANDS else None


def read(
    data: bytes, *, mode: str = "RGB", near: Size | None = None, background: Colour = WHITE,
    inspect: Callable[[Any], None] | None = None,
) -> Picture:  # fmt: skip
    """Decodes a file to a Pillow image of `mode`: RGB, L or RGBA, the last with its transparency.

    With `near`, a JPEG may come at a fraction of its size, never smaller than twice that. `inspect` is called with the
    decoded image before its transparency is composited. Raises `BadImage`.
    """
    image = _opened(data)
    with _decoding(image):
        return _read(image, data, mode, near, background, inspect)


def read_array(data: bytes, *, mode: str = "RGB", background: Colour = WHITE) -> tuple[Array, Size]:
    """The pixels as uint8, (height, width) or (height, width, channels), and the file's own size. Raises `BadImage`."""
    image = _opened(data)
    with _decoding(image):
        if image.mode == mode and orientation(image) == 1 and (array := jpeg_files.pixels(data, image)) is not None:
            return array, image.size
        picture = _read(image, data, mode, None, background, None)
        return np.asarray(picture.image), picture.size


def resized(image: Any, size: Size) -> Any:
    """A Pillow image of this width and height: bilinear, smoothed when made smaller."""
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def stored(data: bytes) -> tuple[Size, int]:
    """Width and height as the file stores them, and its EXIF orientation. Raises `BadImage`.

    Readers of TIFF, HEIC and AVIF give images upright: their orientation is 1.
    """
    with _opened(data) as image:
        if image.format == "PNG" and "exif" not in image.info:
            _load(image)  # its tag may follow the pixels
        if image.format == "TIFF":
            _load(image)
        return image.size, orientation(image)


def is_animated(data: bytes) -> bool:
    """Whether a readable file has several images: an animation or pages.

    The further images of a JPEG (MPO) are previews or stereo views, those of a HEIC are bursts: they don't count.
    """
    if format_of(data[:HEAD_BYTES]) not in ("GIF", "PNG", "WebP", "TIFF", "AVIF"):
        return False
    try:
        with _opened(data) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # the data after the first image may be damaged
        return False


def orientation(image: Any) -> int:
    """The EXIF orientation of a loaded image, 1 to 8; 1 if it is missing or Pillow has already applied it."""
    from PIL import Image

    raw = image.info.get("exif")
    if not raw or image.format == "TIFF":
        return 1
    try:
        exif = Image.Exif()
        exif.load(raw)
        found = exif.get(_ORIENTATION)
    except Exception:  # a damaged tag does not affect the pixels
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


@contextmanager
def _decoding(image: Any) -> Iterator[None]:
    """Raises `BadImage` for any error, and closes the image."""
    try:
        yield
    except BadImage:
        raise
    except MemoryError:
        raise BadImage("not enough memory to decode it") from None
    except Exception as error:  # a broken file can raise anything: SyntaxError, struct.error, EOFError, …
        raise BadImage(f"corrupt: {cause(error, _MAX_CAUSE)}") from error
    finally:
        image.close()


def _read(
    image: Any, data: bytes, mode: str, near: Size | None, background: Colour, inspect: Callable[[Any], None] | None
) -> Picture:
    stored = image.size
    if near is not None and image.format in ("JPEG", "MPO"):
        wide, high = near[::-1] if orientation(image) > 4 else near
        image.draft("RGB", (2 * wide, 2 * high))
    plain = jpeg_files.image(data, image)
    if plain is None:
        image.load()
    rotation = orientation(image)
    # Pillow has already applied the orientation of a TIFF, and PNG may have its tag anywhere.
    size = image.size if image.format == "TIFF" else stored
    grey = image.mode in _GREY_MODES
    if inspect is not None:
        inspect(image if plain is None else plain)
    if plain is None:
        plain = _eight_bits(image)
    has_alpha = plain.has_transparency_data and _is_transparent(plain := plain.convert("RGBA"))
    if has_alpha and mode != "RGBA":
        plain = _flat(plain, background)
    converted = plain if plain is not image and plain.mode == mode else plain.convert(mode)
    return Picture(_upright(converted, rotation), size[::-1] if rotation > 4 else size, grey, has_alpha)


def _load(image: Any) -> None:
    try:
        image.load()
    except Exception as error:  # a broken file can raise anything
        raise BadImage(f"corrupt: {cause(error, _MAX_CAUSE)}") from error


def _opened(data: bytes) -> Any:
    """The file's header, with everything checked that it shows."""
    from PIL import Image, UnidentifiedImageError

    name = format_of(data[:HEAD_BYTES])
    if not data:
        raise BadImage("empty: 0 bytes")
    if len(data) > MAX_FILE_BYTES:
        raise BadImage(f"huge: {len(data) // 2**20} MiB (limit: {MAX_FILE_BYTES // 2**20} MiB)")
    if name is None:
        what = other_formats.described(data)
        raise BadImage(f"not an image (expected one of {', '.join(FORMATS)}{what and f'; got {what}'})")
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked right after, with a clearer message
    try:
        image = Image.open(io.BytesIO(data), formats=[_reader(name)])
    except UnidentifiedImageError as error:
        raise BadImage(f"corrupt, or a rare variant of {name}") from error
    except BadImage:
        raise
    except Exception as error:  # see above: a broken file can raise anything
        raise BadImage(f"corrupt: {cause(error, _MAX_CAUSE)}") from error
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(f"huge: {image.width}x{image.height} pixels (limit: {MAX_PIXELS // 1_000_000} million)")
    if name == "TIFF":
        _check_tiff(image, data)
    return image


def _reader(name: str) -> str:
    """What Pillow calls the format, once it can read it."""
    if name == "HEIC":
        try:
            import_module("pillow_heif").register_heif_opener()
        except ImportError:
            raise BadImage("HEIC: install pillow-heif on the server (pip install pillow-heif)") from None
        return "HEIF"
    if module := _PILLOW[name]:
        import_module(module)
    return name.upper()


def _check_tiff(image: Any, data: bytes) -> None:
    """The raw files of cameras are TIFF files whose first image is a small preview."""
    tags = image.tag_v2
    if data[8:10] == b"CR" or _DNG_VERSION in tags or tags.get(_SUBFILE_TYPE, 0) == 1:
        raise BadImage("raw camera data: export it as JPEG or TIFF")


def _eight_bits(image: Any) -> Any:
    if image.mode.startswith("I;16"):
        return _high_bytes(image)
    if image.mode in ("I", "F"):
        raise BadImage(
            "32 bits per channel, with unknown values for black and white: save it with 8 or 16 bits per channel"
        )
    return _from_lab(image) if image.mode == "LAB" else image


def _high_bytes(image: Any) -> Any:
    """16 bits, or 12 as some TIFF files have them, to 8. A transparent value stays transparent."""
    from PIL import Image

    values = np.asarray(image)
    grey = Image.fromarray((values >> (_bits(image) - 8)).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is None:
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))))


def _bits(image: Any) -> int:
    """Of a grey image with more than 8 bits per value."""
    return int(image.tag_v2.get(_BITS, (16,))[0]) if image.format == "TIFF" else 16


def largest_value(image: Any) -> tuple[int, int] | None:
    """The largest value in an image with more than 8 bits per value, and the largest possible one; None for others."""
    if not image.mode.startswith("I;16"):
        return None
    return int(np.asarray(image).max()), (1 << _bits(image)) - 1


def _from_lab(image: Any) -> Any:
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")


def _is_transparent(rgba: Any) -> bool:
    return bool(rgba.getextrema()[3][0] < 255)


def _flat(rgba: Any, background: Colour) -> Any:
    from PIL import Image

    flat = Image.new("RGB", rgba.size, background)
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


def _upright(image: Any, rotation: int) -> Any:
    from PIL.Image import Transpose

    method = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }.get(rotation)  # fmt: skip
    return image if method is None else image.transpose(method)
