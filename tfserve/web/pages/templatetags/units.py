"""Formats numbers for people. `static/pages/times.js` formats durations in the same way."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from django import template
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.utils import timezone

from tfserve import __version__

register = template.Library()


@register.simple_tag
def asset(path: str) -> str:
    """The URL of a static file, different for each content, so that browsers can keep the file forever."""
    return f"{static(path)}?v={_digest(path)}"


@functools.cache
def _digest(path: str) -> str:
    file = finders.find(path)
    assert file is not None, path
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=6).hexdigest()


@register.simple_tag
def now() -> float:
    """The time of the server, for the clock of the page."""
    return timezone.now().timestamp()


@register.simple_tag
def version() -> str:
    """The version of the server."""
    return __version__


@register.filter
def size(count: int) -> str:
    """Bytes: 512 KiB, 3.4 MiB, 1.2 GiB."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:,.0f} {unit}"


@register.filter
def brief(seconds: float) -> str:
    """A latency: 7.2 µs, 1.8 ms, 120 ms."""
    value, unit = (seconds * 1e6, "µs") if seconds < 1e-3 else (seconds * 1e3, "ms")
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


@register.filter
def difference(value: float) -> str:
    """0, 6e-08, 0.01."""
    return f"{value:.1g}"


@register.filter
def duration(seconds: float) -> str:
    """84 ms, 3.2 s, 14 s, 3 min 12 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"


@register.filter
def since(begin: datetime, end: datetime) -> float:
    """Seconds between two times."""
    return (end - begin).total_seconds()


@register.filter
def elapsed(begin: float) -> str:
    """The time since a Unix timestamp. The page keeps counting from there."""
    return duration(max(1, int(timezone.now().timestamp() - begin)))


@register.filter
def epoch(moment: datetime) -> float:
    return moment.timestamp()


@register.filter
def shape(sizes: Sequence[int] | None) -> str:
    """[?, 28, 28, 1], where ? is any size."""
    if sizes is None:
        return "any shape"
    return f"[{', '.join('?' if size == -1 else str(size) for size in sizes)}]"


@register.filter
def quantization(parameters: dict[str, Any]) -> str:
    """`scale 0.0078, zero point 128`, or `scale 0.1 0.2 per channel (2 along axis 0)`."""
    scale, zero_point = parameters["scale"], parameters["zero_point"]
    if isinstance(scale, (int, float)):
        return f"scale {scale:.6g}, zero point {zero_point}"
    numbers = " ".join(f"{each:.6g}" for each in scale[:4]) + (" …" if len(scale) > 4 else "")
    return f"scale {numbers} per channel ({len(scale)} along axis {parameters['axis']})"


@register.filter
def words(name: str) -> str:
    """A field's name as a label: `peak_memory_bytes` becomes Peak memory."""
    return name.removesuffix("_bytes").removesuffix("_s").replace("_", " ").capitalize()


@register.filter
def facts(fields: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Labels and values of the fields that fit on one line. Nested, empty and false values are left out."""
    return [(words(name), _fact(name, value)) for name, value in (fields or {}).items() if _is_fact(value)]


def _is_fact(value: Any) -> bool:
    if isinstance(value, str):
        return value != "" and "\n" not in value
    return isinstance(value, int | float) and value is not False


def _fact(name: str, value: Any) -> str:
    if value is True:
        return "yes"
    return size(value) if name.endswith("_bytes") else str(value)
