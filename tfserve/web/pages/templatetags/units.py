"""Formats numbers for people. `static/pages/times.js` formats durations in the same way."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django import template
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from tfserve import __version__

register = template.Library()

JUST_NOW_S = 5
MAX_FACTS, FACT_CHARS = 20, 300


@register.simple_tag
def asset(path: str) -> str:
    """The URL of a static file, different when any of them has changed, so that browsers can keep them forever.

    It is in the path, so that the imports of a script have it, too, and each script is loaded once.
    """
    return static(f"v{_digest()}/{path}")


@functools.cache
def _digest() -> str:
    """Of all static files, about 2 MB."""
    digest = hashlib.blake2b(digest_size=6)
    for finder in finders.get_finders():
        for path, storage in sorted(finder.list([]), key=lambda each: each[0]):
            digest.update(path.encode())
            digest.update(Path(storage.path(path)).read_bytes())
    return digest.hexdigest()


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


@register.simple_tag
def ago(moment: datetime | float | str) -> SafeString:
    """`3 min ago`, with the exact time on hover; the page keeps counting. A number is a Unix time, text is ISO 8601."""
    exact = _datetime(moment).astimezone(UTC)
    seconds = (timezone.now() - exact).total_seconds()
    text = "just now" if seconds < JUST_NOW_S else f"{_largest_unit(seconds)} ago"
    return format_html(
        '<time datetime="{}" title="{}" data-ago data-kept>{}</time>',
        exact.isoformat(timespec="seconds"), f"{exact:%Y-%m-%d %H:%M:%S} UTC", text,
    )  # fmt: skip


@register.simple_tag
def exactly(moment: datetime | float | str) -> SafeString:
    """`2026-03-01 12:30 UTC`."""
    exact = _datetime(moment).astimezone(UTC)
    return format_html(
        '<time datetime="{}">{}</time>', exact.isoformat(timespec="seconds"), f"{exact:%Y-%m-%d %H:%M} UTC"
    )


def _datetime(moment: datetime | float | str) -> datetime:
    if isinstance(moment, str):
        return datetime.fromisoformat(moment)
    return moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)


def _largest_unit(seconds: float) -> str:
    """59 s, 3 min, 5 h, 12 d."""
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s:
            return f"{seconds // size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


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
    found = [(name, value) for name, value in (fields or {}).items() if _is_fact(value)]
    return [(words(name), ends(_fact(name, value), FACT_CHARS)) for name, value in found[:MAX_FACTS]]


def _is_fact(value: Any) -> bool:
    if isinstance(value, str):
        return value != "" and "\n" not in value
    return isinstance(value, int | float) and value is not False


def _fact(name: str, value: Any) -> str:
    if value is True:
        return "yes"
    return size(value) if name.endswith("_bytes") else str(value)


@register.filter
def metric(name: str) -> str:
    """The name of a metric as a heading."""
    return {"iou": "IoU", "ap": "AP", "ap50": "AP50"}.get(name) or words(name)


@register.filter
def percent(share: float) -> str:
    """Of 0 to 1: 93 %, 4.2 %."""
    return f"{share:.0%}".replace("%", " %") if share >= 0.1 else f"{share:.1%}".replace("%", " %")


@register.filter
def figure(value: Any) -> str:
    """A metric: 0.953, 120, –."""
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


@register.filter
def milliseconds(value: float) -> str:
    """The same as `brief`, for a latency in milliseconds."""
    return brief(value / 1000)


@register.filter
def code(text: str) -> SafeString:
    """The text of an element, where only these need an escape: of a program, quotation marks are a tenth."""
    plain = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return mark_safe(plain)  # noqa: S308 - escaped above


@register.filter
def ends(text: Any, limit: int) -> str:
    """A long text without its middle: what an error is about is at its beginning, and often its cause at its end."""
    shown, half = str(text), limit // 2
    if len(shown) <= limit:
        return shown
    return f"{shown[:half]} … {len(shown) - 2 * half:,} characters left out … {shown[-half:]}"


@register.filter
def beginning(text: Any, limit: int) -> str:
    """At most `limit` characters. Django's `truncatechars` takes a fifth of a millisecond."""
    shown = str(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
