"""Formats that become SavedModels before they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import keras, tfjs_graph, tfjs_layers

_EXPORTERS: dict[str, Callable[[Path, Path], None]] = {
    formats.KERAS: keras.export,
    formats.HDF5: keras.export,
    formats.TFJS_GRAPH: tfjs_graph.export,
    formats.TFJS_LAYERS: tfjs_layers.export,
}


def write(model: Located, folder: Path) -> None:
    """Writes a model whose format is one of `formats.EXPORTED` as a SavedModel. Raises `Invalid`, with the cause."""
    _EXPORTERS[model.format](model.path, folder)
