"""Refuses models with symbolic links to files outside the readable folders.

The requested path is checked when the request arrives. The links inside the model are checked here: by the supervisor
before it uses a process for the model, by that process before it loads the model, and again after loading,
because a link may have been created in the meantime. Hard links are not refused:
they are indistinguishable from ordinary files, package managers and model stores use them, and Linux allows them only
to files that their creator may write (fs.protected_hardlinks).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from tfserve.config import load
from tfserve.errors import Invalid
from tfserve.models import onnx_data
from tfserve.models.formats import ONNX, TFJS_GRAPH, TFJS_LAYERS, Located, checkpoint_files, companions

CONVERSIONS = "conversions"


class LinkRefused(Invalid):
    """{path} leads to {target}, outside the folders that this server may read: {roots}. Put the file itself there."""


def check(model: Located) -> None:
    """Raises `LinkRefused`. Without configured roots (a worker without a server) everything is allowed."""
    settings = load()
    roots = settings.configured_roots
    if not roots:
        return
    for path in _files(model):
        target = Path(os.path.realpath(path))
        if not any(target.is_relative_to(folder) for folder in (*roots, settings.data_path / CONVERSIONS)):
            raise LinkRefused(path=str(path), target=str(target), roots=", ".join(map(str, roots)))


def _files(model: Located) -> Iterator[Path]:
    """The model's own path, and every link among the files that its runtime may read."""
    yield model.path
    if model.path.is_dir():
        yield from _links_below(model.path, set())
    else:
        yield from _links_next_to(model)
        if model.format in (TFJS_GRAPH, TFJS_LAYERS):
            yield from companions(model.path)
    if model.weights is not None:
        yield from (file for _, file in checkpoint_files(model.weights))


def _links_below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Every link in the folder, including those in linked folders."""
    real = Path(os.path.realpath(folder))
    if real in seen:  # circular links
        return
    seen.add(real)
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink():
                yield path
                if path.is_dir():
                    yield from _links_below(path, seen)


def _links_next_to(model: Located) -> Iterator[Path]:
    """Links that belong to a model in one file: named after it, or named in it (ONNX's external data)."""
    for path in model.path.parent.iterdir():
        if path.is_symlink() and (path.name.startswith(model.path.stem) or _names(model, path.name)):
            yield path
    if model.format == ONNX:  # in a folder below it, the folder may be the link
        yield from (model.path.parent / name for name in sorted(onnx_data.names(model.path)))


def _names(model: Located, name: str) -> bool:
    if model.format != ONNX or not model.path.stat().st_size:
        return False
    with model.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(name.encode()) >= 0
