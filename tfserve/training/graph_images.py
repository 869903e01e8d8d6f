"""Image files to pixels inside a TensorFlow graph, as `tfserve.runtimes.image_files` decodes them.

For programs that run a SavedModel without this server. TensorFlow reads JPEG, PNG, GIF, BMP and WebP. Its decoders
ignore orientation and transparency, so both are read from the bytes here.
"""

from __future__ import annotations

import io
from typing import Any

import tensorflow as tf
from PIL import Image

from tfserve.colours import Colour
from tfserve.runtimes import image_files
from tfserve.training import images

MOST_CHUNKS = 200
"""Parts of a file, or entries of an EXIF directory, that are searched for the orientation."""
_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""The segment APP14 of a JPEG whose colours are stored as they are."""
_FLIPPED_ACROSS, _FLIPPED_DOWN, _FIRST_TRANSPOSED = (2, 3, 6, 7), (3, 4, 7, 8), 5


def reads(data: bytes) -> bool:
    """Whether TensorFlow decodes this file to the same pixels as Pillow.

    It takes the numbers of a BMP's palette for grey levels, and knows neither its compression nor rare headers.
    """
    name = image_files.format_of(data[: image_files.HEAD_BYTES])
    if name == "BMP":
        header_bytes, bits, compression = data[14], data[28], data[30]
        return header_bytes == 40 and bits == 24 and compression == 0
    return name in ("JPEG", "PNG", "GIF", "WebP")


def readable(data: bytes, background: Colour) -> bytes:
    """The bytes of an image file if TensorFlow can decode them, else of a PNG file with the same pixels."""
    if reads(data):
        return data
    png = io.BytesIO()
    Image.fromarray(images.decoded(data, background)).save(png, "PNG", compress_level=1)
    return png.getvalue()


def decoded(data: Any, background: Colour, near: tuple[int, int] | None = None) -> Any:
    """(height, width, 3) float32 of 0 to 255 from the bytes of a file, upright and without transparency.

    With `near`, a height and width, a JPEG is decoded at a fraction of its size, at least twice as large as that.
    """
    is_jpeg = tf.io.is_jpeg(data)
    turns = orientation(data)
    image = tf.cond(is_jpeg, lambda: _jpeg(data, turns, near), lambda: _flat(_with_alpha(data, background), background))
    image.set_shape((None, None, 3))
    return upright(image, turns)


def upright(image: Any, turns: Any) -> Any:
    """An image (height, width, channels) as the EXIF orientation `turns`, a scalar of 1 to 8, says."""
    image = tf.cond(turns >= _FIRST_TRANSPOSED, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(_is_one_of(turns, _FLIPPED_ACROSS), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(_is_one_of(turns, _FLIPPED_DOWN), lambda: tf.reverse(image, [0]), lambda: image)


def orientation(data: Any) -> Any:
    """The EXIF orientation of a JPEG, PNG or WebP file, 1 to 8; 1 for all others and where there is none."""
    exif = tf.case(
        [
            (tf.io.is_jpeg(data), lambda: _segment_of_jpeg(data, 0xFFE1, b"Exif\0\0")),
            (tf.equal(_part(data, 0, 4), b"\x89PNG"), lambda: _exif_of_chunks(data, 8, b"eXIf", "PNG")),
            (tf.equal(_part(data, 8, 4), b"WEBP"), lambda: _exif_of_chunks(data, 12, b"EXIF", "WebP")),
        ],
        default=lambda: tf.constant(b""),
    )
    return _orientation_in(exif)


# --- pixels


def _jpeg(data: Any, turns: Any, near: tuple[int, int] | None) -> Any:
    """As Pillow decodes it: TensorFlow's faster way moves probabilities by up to 0.1."""

    shape = tf.io.extract_jpeg_shape(data)
    data = tf.cond(shape[2] == 4, lambda: _marked_cmyk(data), lambda: data)

    def decode(ratio: int) -> Any:
        pixels = tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
        return tf.cast(pixels, tf.float32)

    if near is None:
        return decode(1)
    height, width = tf.unstack(shape[:2])
    high, wide = tf.unstack(tf.where(turns >= _FIRST_TRANSPOSED, near[::-1], near))
    fits = tf.minimum(height // (2 * high), width // (2 * wide))
    step = tf.reduce_sum(tf.cast(fits >= [2, 4, 8], tf.int32))
    return tf.switch_case(step, [lambda ratio=ratio: decode(ratio) for ratio in (1, 2, 4, 8)])


def _marked_cmyk(data: Any) -> Any:
    """A CMYK file with Adobe's mark. Without it TensorFlow takes full ink for none; Pillow takes all as marked."""
    is_marked = tf.not_equal(_segment_of_jpeg(data, 0xFFEE, b"Adobe"), b"")
    return tf.cond(is_marked, lambda: data, lambda: tf.strings.join([_part(data, 0, 2), _ADOBE, _from(data, 2)]))


def _with_alpha(data: Any, background: Colour) -> Any:
    """(height, width, channels) uint8: 1 for grey, 2 with alpha, 3 for colours, 4 with alpha.

    A PNG has its own number of channels, since TensorFlow decodes one of 1, 2 or 4 bits wrongly to another number.
    """
    return tf.case(
        [
            (tf.equal(_part(data, 0, 4), b"\x89PNG"), lambda: tf.io.decode_png(data)),
            (tf.equal(_part(data, 8, 4), b"WEBP"), lambda: _webp(data)),
            (tf.equal(_part(data, 0, 4), b"GIF8"), lambda: tf.io.decode_gif(_filled_gif(data, background))[0]),
        ],
        default=lambda: _bmp(data),
    )


def _bmp(data: Any) -> Any:
    """Anything else: a BMP file, or an error of TensorFlow's that says what was expected."""
    is_bmp = tf.equal(_part(data, 0, 2), b"BM")
    is_plain = (_number(data, 14, 1) == 40) & (_number(data, 28, 1) == 24) & (_number(data, 30, 1) == 0)
    message = "a BMP file with a palette, compression or transparency was given: save it with 24 bits, or as PNG"
    with tf.control_dependencies([tf.debugging.Assert(~is_bmp | is_plain, [message])]):
        return tf.io.decode_image(tf.identity(data), channels=3, expand_animations=False)


def _webp(data: Any) -> Any:
    """The first picture. An animation is marked as transparent, whether it is or not.

    TensorFlow writes four channels of an animation into the memory for three if it is not, which crashes the process.
    """
    flags = _number(data, 20, 1)
    is_animation = tf.equal(_part(data, 12, 4), b"VP8X") & (tf.bitwise.bitwise_and(flags, 2) > 0)
    marked = tf.gather(tf.constant([bytes([value | 16]) for value in range(256)]), flags)
    data = tf.cond(is_animation, lambda: tf.strings.join([_part(data, 0, 20), marked, _from(data, 21)]), lambda: data)
    return tf.io.decode_image(data, expand_animations=False)


def _flat(image: Any, background: Colour) -> Any:
    """(height, width, 3) float32: whole numbers, as Pillow composites."""
    pixels, channels = tf.cast(image, tf.float32), tf.shape(image)[-1]
    colours = tf.cond(channels < 3, lambda: tf.repeat(pixels[..., :1], 3, axis=-1), lambda: pixels[..., :3])

    def composite() -> Any:
        alpha = pixels[..., -1:] / 255.0
        return tf.round(colours * alpha + tf.constant(background, tf.float32) * (1.0 - alpha))

    return tf.cond(channels % 2 == 0, composite, lambda: colours)


def _filled_gif(data: Any, background: Colour) -> Any:
    """A GIF whose transparent colour is the background instead: TensorFlow would paint it black."""
    flags = _number(data, 10, 1)
    after = tf.where(flags >= 128, 13 + _table_bytes(flags), 13)
    control, image = _gif_blocks(data, after)
    local = _number(data, image + 9, 1)
    table = tf.where(local >= 128, image + 10, 13)
    entry = table + 3 * _number(data, control + 6, 1)
    is_transparent = (control > 0) & (image > 0) & (_number(data, control + 3, 1) % 2 == 1)

    def fill() -> Any:
        opaque = tf.strings.join([_part(data, 0, control + 3), b"\0", _from(data, control + 4)])
        return tf.strings.join([_part(opaque, 0, entry), bytes(background), _from(opaque, entry + 3)])

    return tf.cond(is_transparent, fill, lambda: data)


def _table_bytes(flags: Any) -> Any:
    return 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))


def _gif_blocks(data: Any, at: Any) -> tuple[Any, Any]:
    """Where the first image begins and the control block before it; 0 where there is none."""
    length = tf.strings.length(data)

    def goes_on(at: Any, _: Any, steps: Any) -> Any:
        return (_number(data, at, 1) == 0x21) & (at < length) & (steps < MOST_CHUNKS)

    def step(at: Any, control: Any, steps: Any) -> tuple[Any, Any, Any]:
        control = tf.where(_number(data, at + 1, 1) == 0xF9, at, control)
        return _after_sub_blocks(data, at + 2, length), control, steps + 1

    at, control, _ = tf.while_loop(goes_on, step, (at, tf.constant(0), tf.constant(0)))
    return control, tf.where(_number(data, at, 1) == 0x2C, at, 0)


def _after_sub_blocks(data: Any, at: Any, length: Any) -> Any:
    (end,) = tf.while_loop(
        lambda at: (_number(data, at, 1) > 0) & (at < length), lambda at: (at + 1 + _number(data, at, 1),), (at,)
    )
    return end + 1


# --- orientation


def _segment_of_jpeg(data: Any, wanted: int, begin: bytes) -> Any:
    """What follows `begin` in the first segment with this marker and beginning, or nothing."""

    def goes_on(at: Any, found: Any, steps: Any) -> Any:
        marker = _number(data, at, 2)
        is_header = (marker >= 0xFFC0) & (marker != 0xFFDA) & (marker != 0xFFD9)
        return is_header & tf.equal(found, b"") & (steps < MOST_CHUNKS)

    def step(at: Any, found: Any, steps: Any) -> tuple[Any, Any, Any]:
        size = _number(data, at + 2, 2)
        is_it = (_number(data, at, 2) == wanted) & tf.equal(_part(data, at + 4, len(begin)), begin)
        content = at + 4 + len(begin)
        found = tf.cond(is_it, lambda: _part(data, content, tf.maximum(at + 2 + size - content, 0)), lambda: found)
        return at + 2 + tf.maximum(size, 1), found, steps + 1

    _, found, _ = tf.while_loop(goes_on, step, (tf.constant(2), tf.constant(b""), tf.constant(0)))
    return found


def _exif_of_chunks(data: Any, first: int, name: bytes, form: str) -> Any:
    """The TIFF structure in a chunk of a PNG (length, name, content, sum) or WebP (name, length, content) file."""
    length = tf.strings.length(data)
    is_png = form == "PNG"

    def goes_on(at: Any, found: Any, steps: Any) -> Any:
        return (at + 8 <= length) & tf.equal(found, b"") & (steps < MOST_CHUNKS * 50)

    def step(at: Any, found: Any, steps: Any) -> tuple[Any, Any, Any]:
        named = _part(data, at + 4 if is_png else at, 4)
        size = _number(data, at, 4) if is_png else _number(data, at + 4, 4, little=True)
        size = tf.clip_by_value(size, 0, length)
        found = tf.cond(tf.equal(named, name), lambda: _part(data, at + 8, size), lambda: found)
        return at + (12 + size if is_png else 8 + size + size % 2), found, steps + 1

    _, found, _ = tf.while_loop(goes_on, step, (tf.constant(first), tf.constant(b""), tf.constant(0)))
    return tf.cond(tf.equal(_part(found, 0, 6), b"Exif\0\0"), lambda: _from(found, 6), lambda: found)


def _orientation_in(exif: Any) -> Any:
    """From a TIFF structure: in the first directory, the number with the tag 0x0112."""
    is_little = tf.equal(_part(exif, 0, 2), b"II")

    def number(at: Any, size: int) -> Any:
        return tf.where(is_little, _number(exif, at, size, little=True), _number(exif, at, size))

    directory = tf.clip_by_value(number(4, 4), 0, tf.strings.length(exif))
    room = (tf.strings.length(exif) - directory) // 12
    entries = tf.minimum(tf.minimum(number(directory, 2), room), MOST_CHUNKS)

    def step(n: Any, found: Any) -> tuple[Any, Any]:
        entry = directory + 2 + 12 * n
        is_ours = (number(entry, 2) == 0x0112) & (number(entry + 4, 4) == 1)
        value = tf.where(number(entry + 2, 2) == 4, number(entry + 8, 4), number(entry + 8, 2))
        return n + 1, tf.where(is_ours, value, found)

    _, found = tf.while_loop(lambda n, _: n < entries, step, (tf.constant(0), tf.constant(1)))
    return tf.where((found >= 1) & (found <= 8), found, 1)


def _number(data: Any, at: Any, size: int, *, little: bool = False) -> Any:
    """The unsigned whole number of `size` bytes, as int32; bytes after the end count as 0."""
    padded = tf.strings.join([_part(data, at, size), b"\0" * size])
    octets = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, size), tf.uint8), tf.int32)
    places = range(size) if little else reversed(range(size))
    return tf.reduce_sum(octets * tf.constant([256**place for place in places]))


def _part(data: Any, at: Any, size: Any) -> Any:
    """Some bytes; fewer, or none, after the end."""
    length = tf.strings.length(data)
    return tf.strings.substr(data, tf.clip_by_value(at, 0, length), size)


def _from(data: Any, at: Any) -> Any:
    return _part(data, at, tf.strings.length(data))


def _is_one_of(value: Any, numbers: tuple[int, ...]) -> Any:
    return tf.reduce_any(tf.equal(value, numbers))
