"""Colours by name or number."""

from __future__ import annotations

from functools import lru_cache

from tfserve.errors import Invalid

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@lru_cache(64)
def colour(text: str) -> Colour:
    """Red, green and blue of a colour's name or of `#rrggbb`. Raises `Invalid`."""
    from PIL import ImageColor

    try:
        red, green, blue, *alpha = ImageColor.getrgb(text)
        if alpha:
            raise ValueError("transparent")
    except ValueError:
        raise Invalid(
            f"background: a colour such as 'white' or '#rrggbb' was expected, {text[:40]!r} was given."
        ) from None
    return red, green, blue
