"""The held-out images of a training as requests that were sent before: what a model is compared by at once."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from tfserve.errors import Invalid
from tfserve.ipc.predictions import Ask, to_tensor
from tfserve.models.formats import Located
from tfserve.runtimes import image_input, image_metadata
from tfserve.runtimes.decoding import decode
from tfserve.runtimes.image_input import ImageInput
from tfserve.tensors import Array, Signature

ENOUGH = 8
"""So many different images are made of fewer, mirrored."""
BATCHES = (3, 8)
MAX_IMAGES = 32
MAX_BYTES = 96 * 1024 * 1024
"""Of all requests together."""


def samples(model: Located, name: str, signature: Signature) -> list[bytes]:
    """Requests for the signature `name` with one image each, and with several of one size; [] if none were kept.

    The images become inputs as files of callers do.
    """
    described = image_metadata.find(model, None)
    if described is None or len(signature.inputs) != 1 or not model.path.is_dir():
        return []
    try:
        into = image_input.fit(signature.inputs[0], described.spec)
        images = _images(model.path / image_metadata.HELD_OUT, into)
    except (OSError, Invalid, zipfile.BadZipFile):
        return []  # nothing to compare by is no reason not to serve
    outputs = tuple(spec.name for spec in signature.outputs)
    return [
        msgspec.msgpack.encode(Ask(name, (into.tensor.name,), (to_tensor(array),), outputs))
        for array in _within(_requests(images), MAX_BYTES)
    ]


def _images(file: Path, into: ImageInput) -> list[Array]:
    with zipfile.ZipFile(file) as archive:
        contents = [archive.read(each) for each in archive.infolist()[:MAX_IMAGES]]
    decoded = [decode(into.spec, number, content)[0] for number, content in enumerate(contents)]
    mirrored = [image[::down, ::right] for down, right in ((1, -1), (-1, 1), (-1, -1)) for image in decoded]
    missing = max(0, ENOUGH - len(decoded))
    return [into.arranged(image) for image in (*decoded, *mirrored[:missing])]


def _requests(images: list[Array]) -> Iterator[Array]:
    for image in images[:ENOUGH]:
        yield image[np.newaxis]
    for rows in BATCHES:
        if len({image.shape for image in images[:rows]}) == 1 and len(images) >= rows:
            yield np.stack(images[:rows])
    for image in images[ENOUGH:]:
        yield image[np.newaxis]


def _within(arrays: Iterator[Array], limit_bytes: int) -> Iterator[Array]:
    size_bytes = 0
    for array in arrays:
        size_bytes += array.nbytes
        if size_bytes > limit_bytes:
            return
        yield array
