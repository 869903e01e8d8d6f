"""Models saved by Keras, turned into SavedModels. The only module that imports Keras."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tfserve.errors import Invalid

_UNKNOWN_CLASS = re.compile(r"(?:Could not locate class|Unknown layer:|Unknown object:?) '([^']+)'")


def export(file: Path, folder: Path) -> None:
    """Writes the model in a `.keras` or `.h5` file as a SavedModel into `folder`. Raises `Invalid`."""
    import keras

    model = _load(keras, file)
    try:
        model.export(folder, format="tf_saved_model", verbose=False)
    except Exception as error:
        raise Invalid(
            f"{file} was read, but the model can't be exported as a SavedModel: {_first_line(error)} If its input"
            " shape is unknown, call the model once, or give it an Input layer, before saving it."
        ) from error
    finally:
        del model
        keras.backend.clear_session(free_memory=True)


def warm_up() -> None:
    import keras

    keras.backend.backend()


def _load(keras: Any, file: Path) -> Any:
    try:
        return keras.saving.load_model(file, safe_mode=True, compile=False)
    except Exception as error:
        raise Invalid(f"{file} can't be loaded: {_cause(str(error))}") from error


def _cause(message: str) -> str:
    if "Lambda" in message and "unsafe" in message:
        return (
            "it has a Lambda layer, which holds Python code that would run inside this server, so it is refused."
            " Replace the layer by one of Keras' own (Rescaling, keras.ops in a functional model), or export the model"
            " as a SavedModel with model.export(folder)."
        )
    if custom := _UNKNOWN_CLASS.search(message):
        return (
            f"its class {custom[1]!r} is not one of Keras' own, and a server does not have the code of it. Export the"
            " model as a SavedModel with model.export(folder), which holds the computation itself."
        )
    if "signature not found" in message or "accessible `.keras` zip" in message or "truncated" in message:
        return "it is not a Keras model, or it was not written or copied to its end. Save or copy it again."
    return _first_line(message)


def _first_line(error: Exception | str) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:500]
