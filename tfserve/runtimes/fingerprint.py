"""A name for what a model's files are, and for what would compute them."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import machine

LIBRARIES = (
    "tensorflow", "tensorflow-cpu", "keras", "tf-keras", "openvino", "ai-edge-litert", "onnxruntime", "tf2onnx",
    "numpy",
)  # fmt: skip

_GENERATION = "2"
"""Goes up when conversions or comparisons are made in another way, so that former choices are forgotten."""


def fingerprint(path: Path, weights: str | None = None) -> str:
    """The SHA-256 of all files of a model: names and bytes. Raises `Invalid` when they can't be read."""
    digest = hashlib.sha256()
    try:
        for name, file in _files(path, weights):
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").digest()
            digest.update(f"{len(name)} {name}".encode() + content)
    except OSError as error:
        raise Invalid(f"{path} can't be read: {error}") from error
    return digest.hexdigest()


def key(model: Located, *, precision: str = "float32") -> str:
    """A hexadecimal name that changes with the files, the libraries, the processor and the precision."""
    parts = [_GENERATION, fingerprint(model.path, model.weights), precision, machine.processor(), *_versions()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _files(path: Path, weights: str | None) -> Iterator[tuple[str, Path]]:
    """The files in a fixed order, with names that do not depend on where the model is."""
    files = (
        sorted(file for file in path.rglob("*") if file.is_file())
        if path.is_dir()
        else [path, *formats.companions(path)]
    )
    yield from ((str(file.relative_to(path if path.is_dir() else path.parent)), file) for file in files)
    if weights is not None:
        yield from ((f"weights{rest}", file) for rest, file in formats.checkpoint_files(weights))


def _versions() -> Iterator[str]:
    for name in LIBRARIES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
