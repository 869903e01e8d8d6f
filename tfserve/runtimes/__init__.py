"""What can load a model: a table of formats and of the runtimes for them, each imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from tfserve.errors import Unsupported
from tfserve.runtimes import formats
from tfserve.runtimes.formats import Located
from tfserve.runtimes.interface import Runtime

_TENSORFLOW = "tfserve.runtimes.tensorflow"

RUNTIMES = {
    formats.META_GRAPH: _TENSORFLOW,
    formats.SAVED_MODEL: _TENSORFLOW,
    formats.KERAS: _TENSORFLOW,
    formats.HDF5: _TENSORFLOW,
    formats.ECHO: "tfserve.runtimes.echo",
}

NEEDS = {
    "tensorflow": "This model needs TensorFlow, which is not installed: pip install 'tfserve[tensorflow]'.",
    "keras": "This model needs Keras, which is not installed: pip install 'tfserve[tensorflow]'.",
}


def load(model: Located, *, device: str) -> Runtime:
    """Loads a model that `formats.locate` has found. Raises `Invalid` or `Unsupported`, with the cause."""
    module = importlib.import_module(RUNTIMES[model.format])
    try:
        return cast(Callable[..., Runtime], module.load)(model, device=device)
    except ModuleNotFoundError as error:
        if error.name in NEEDS:
            raise Unsupported(NEEDS[error.name]) from error
        raise
