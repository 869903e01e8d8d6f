"""Images that users of a model have sent back with their correct labels: the next training of the project learns from
them. They lie in `models/feedback/<label>/` of the project."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path
from typing import NamedTuple

from tfserve.errors import Invalid, Unsupported, nearest
from tfserve.training.findings import Findings
from tfserve.training.project_folders import FEEDBACK
from tfserve.training.writing import written_aside

MAX_BYTES = 32 * 1024 * 1024
_SUFFIXES = {
    b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp",
    b"II*\0": ".tiff", b"MM\0*": ".tiff",
}  # fmt: skip
"""How image files begin. Those of phones (HEIC, AVIF) have `ftyp` behind four bytes."""


class Kept(NamedTuple):
    """`file` is relative to the folder with `models`; `images` is the number of images kept for the project."""

    label: str
    file: str
    images: int


def keep(results: Path, found: Findings, label: str, data: bytes) -> Kept:
    """Keeps an image for the next training in `results`, the folder with `models`. A newer label replaces an older one.

    `label` is a label or its display name. Raises `Invalid`, `Unsupported`, `OSError`.
    """
    if found.train_type != "classification":
        raise Unsupported(f"Feedback is an image and its label, which a {found.train_type} does not have.")
    known = label_of(found, label)
    name = hashlib.blake2b(data, digest_size=16).hexdigest() + _suffix(data)
    folder = results / FEEDBACK
    file = folder / known / name
    with written_aside(file) as aside:
        aside.write_bytes(data)
    images = [each for each in folder.glob("*/*") if not each.name.startswith(".")]
    older = [each for each in images if each.name == name and each != file]
    for each in older:
        each.unlink(missing_ok=True)
    return Kept(known, str(file.relative_to(results)), len(images) - len(older))


def label_of(found: Findings, text: str) -> str:
    """The label that a text means: itself, or the label with this display name. Raises `Invalid`."""
    by_display = {_composed(name): label for name, label in zip(found.display, found.labels, strict=False)}
    label = text if text in found.labels else by_display.get(_composed(text))
    if label is None:
        raise Invalid(
            f"label: one of {', '.join(found.labels[:50])} was expected, {text[:100]!r} was given"
            f"{nearest(text, [*found.labels, *by_display])}."
        )
    return label


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _suffix(data: bytes) -> str:
    suffix = next((suffix for begin, suffix in _SUFFIXES.items() if data.startswith(begin)), "")
    suffix = suffix or (".heic" if data[4:8] == b"ftyp" else "")
    if not suffix or len(data) > MAX_BYTES:
        raise Invalid(
            f"image: an image file of at most {MAX_BYTES // 2**20} MiB was expected (PNG, JPEG, WebP, …);"
            f" {len(data)} bytes were given that begin with {data[:8]!r}."
        )
    return suffix
