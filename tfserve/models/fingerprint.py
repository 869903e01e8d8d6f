"""Fingerprints of a model's files, and of the environment that runs them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.models.formats import Located

LIBRARIES = (
    "tensorflow", "tensorflow-cpu", "keras", "tf-keras", "openvino", "ai-edge-litert", "onnxruntime", "tf2onnx",
    "numpy",
)  # fmt: skip

_NAMED = re.compile(r"^(?:model name|flags|Features)\s*:\s*(.*)$", re.MULTILINE)
_GENERATION = "3"
"""Incremented when conversions or comparisons change, which discards earlier choices."""


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


def size_bytes(model: Located) -> int:
    """How much `key` reads. Raises `OSError`."""
    return sum(file.stat().st_size for _, file in _files(model.path, model.weights))


def key(model: Located, *, precision: str = "float32") -> str:
    """A hexadecimal name that changes with the files, the libraries, the processor and the precision."""
    parts = [_GENERATION, fingerprint(model.path, model.weights), precision, _processor(), *_versions()]
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


def _processor() -> str:
    """An identifier that differs between processors with different results or speed."""
    try:
        cpu_info = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpu_info = ""
    cores = len(os.sched_getaffinity(0))
    return " ".join([platform.machine(), *dict.fromkeys(_NAMED.findall(cpu_info)), str(cores)])


def _versions() -> Iterator[str]:
    for name in LIBRARIES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
