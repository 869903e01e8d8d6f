"""Models saved by Keras, turned into SavedModels. The only module that imports Keras.

Files of Keras 3 are loaded by Keras. Those of Keras 1 and 2 are loaded by `tf_keras`, which is Keras 2 for today's
TensorFlow: it still has the layers and arguments that Keras 3 dropped, and computes as the file's author saw it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import keyword
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfserve.errors import Invalid
from tfserve.runtimes import keras_file
from tfserve.runtimes.causes import cause
from tfserve.runtimes.keras_file import KerasFile

_UNKNOWN_CLASS = re.compile(
    r"(?:Could not locate class|Unknown layer:|Unknown object:?|Could not deserialize class) '([^']+)'"
)
Loader = Callable[[Any, Path, KerasFile], Any]
"""Loads a model with `keras` or `tf_keras`. May raise anything."""

_UNKNOWN_FUNCTION = re.compile(r"(?:Unknown [a-z ]*(?:function|object)): '?([\w.>]+)'?")


def export(file: Path, folder: Path) -> None:
    """Writes the model in a `.keras` or `.h5` file as a SavedModel into `folder`.

    Its signature has the names of the model's own inputs and outputs, and their sizes, a fixed batch too. Raises
    `Invalid`.
    """
    description = keras_file.read(file)
    export_model(file, description, _load, folder)


def export_model(file: Path, description: KerasFile, load: Loader, folder: Path) -> None:
    """Writes the model that `load` returns as a SavedModel, as `export` does. Raises `Invalid`."""
    keras = importlib.import_module("tf_keras" if description.is_legacy else "keras")
    try:
        model = load(keras, file, description)
    except Invalid:
        raise
    except Exception as error:
        raise Invalid(f"{file} can't be loaded: {_explained(str(error))}") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            _write(keras, model, folder)
    except Exception as error:
        raise Invalid(
            f"{file} was read, but the model can't be exported as a SavedModel: {cause(error)} If its input"
            " shape is unknown, call the model once, or give it an Input layer, before saving it."
        ) from error
    finally:
        del model
        keras.backend.clear_session()


def warm_up() -> None:
    import keras

    keras.backend.backend()


def _load(keras: Any, file: Path, description: KerasFile) -> Any:
    known = {"custom_objects": additions(keras)} if description.is_legacy else {}
    with _suffixed(file, ".keras" if description.is_zip else ".h5") as path:
        return keras.saving.load_model(path, safe_mode=True, compile=False, **known)


def additions(keras: Any) -> Mapping[str, Any]:
    """Names in files that Keras 2 does not know by itself.

    Programs had to bring along some activations before Keras had them. One layer is not in its own table of layers.
    """
    import tensorflow as tf

    return {
        "relu6": tf.nn.relu6,
        "hard_swish": lambda x: x * tf.nn.relu6(x + 3) / 6,
        "leaky_relu": tf.nn.leaky_relu,
        "log_softmax": tf.nn.log_softmax,
        "silu": tf.nn.silu,
        "SpectralNormalization": keras.layers.SpectralNormalization,
    }


@contextlib.contextmanager
def _suffixed(file: Path, suffix: str) -> Iterator[str]:
    """A path of the file with the suffix from which Keras tells its format."""
    if file.suffix == suffix:
        yield str(file)
        return
    with tempfile.TemporaryDirectory(prefix="tfserve-") as folder:
        link = Path(folder, f"model{suffix}")
        link.symlink_to(file.resolve())
        yield str(link)


def _explained(message: str) -> str:
    if "Lambda" in message and "unsafe" in message:
        return keras_file.HAS_CODE
    if custom := _UNKNOWN_CLASS.search(message) or _UNKNOWN_FUNCTION.search(message):
        return keras_file.custom_class(custom[1])
    if "signature not found" in message or "accessible `.keras` zip" in message or "truncated" in message:
        return keras_file.NOT_KERAS
    return cause(message)


def _write(keras: Any, model: Any, folder: Path) -> None:
    import tensorflow as tf

    inputs = _input_specs(tf, model)
    call = tf.function(_serving(tf, model, list(inputs)), input_signature=list(inputs.values()), autograph=False)
    call.get_concrete_function()
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", call)
    archive.write_out(str(folder))


def _input_specs(tf: Any, model: Any) -> dict[str, Any]:
    """The inputs by name, in the model's order."""
    if not model.inputs:
        raise ValueError("its inputs are not known.")
    names = unique(map(argument_name, _input_names(model)))
    return {name: _spec(tf, name, each) for name, each in zip(names, model.inputs, strict=True)}


def _input_names(model: Any) -> list[str]:
    """Those of the Input layers; a tensor of Keras 2 has a name of its own, which is another one when it was nested."""
    return list(getattr(model, "input_names", None) or [each.name for each in model.inputs])


def _spec(tf: Any, name: str, tensor: Any) -> Any:
    if (own := getattr(tensor, "type_spec", None)) is not None and not isinstance(own, tf.TensorSpec):
        return own  # ragged or sparse, in Keras 2
    if getattr(tensor, "sparse", False):
        return tf.SparseTensorSpec(tensor.shape, tensor.dtype)
    if getattr(tensor, "ragged", False):
        return tf.RaggedTensorSpec(tensor.shape, tensor.dtype)
    return tf.TensorSpec(tensor.shape, tensor.dtype, name=name)


def _serving(tf: Any, model: Any, inputs: Sequence[str]) -> Callable[..., dict[str, Any]]:
    """A function of all inputs by name, which returns the outputs by name."""
    structure = _input_structure(model)

    def serve(*values: Any) -> dict[str, Any]:
        result = model(tf.nest.pack_sequence_as(structure, values), training=False)
        flat = tf.nest.flatten(result)
        return dict(zip(_output_names(model, result, len(flat)), map(tf.identity, flat), strict=True))

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in inputs]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return serve


def _input_structure(model: Any) -> Any:
    """How the inputs are nested: one alone, a list, a dictionary or more. Only Keras knows, in a private place."""
    functional = _functional(model)
    for name in ("_inputs_struct", "_nested_inputs"):
        if (structure := getattr(functional, name, None)) is not None:
            return structure[0] if isinstance(structure, list) and len(structure) == 1 else structure
    return model.inputs[0] if len(model.inputs) == 1 else model.inputs


def _functional(model: Any) -> Any:
    """The functional model inside a Sequential one of Keras 3."""
    return getattr(model, "_functional", None) or model


def _output_names(model: Any, result: Any, count: int) -> list[str]:
    """The keys when the model returns a dictionary, else the names of the layers that made the outputs."""
    names = list(getattr(_functional(model), "output_names", None) or ())
    if isinstance(result, dict) or len(names) != count:
        names = ["/".join(path) or model.name for path in _paths(result)]
    return unique(names)


def _paths(result: Any) -> Iterator[tuple[str, ...]]:
    """The keys that lead to each tensor, in the order in which TensorFlow flattens what is nested."""
    if isinstance(result, dict):
        keys: Iterable[Any] = sorted(result)
    elif isinstance(result, list | tuple):
        keys = range(len(result))
    else:
        yield ()
        return
    for key in keys:
        for path in _paths(result[key]):
            yield (str(key), *path)


def argument_name(name: str) -> str:
    """The name as one that a function's argument may have: TensorFlow allows no other for an input."""
    found = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not found or found[0].isdigit():
        found = f"input_{found}"
    return f"{found}_" if keyword.iskeyword(found) else found


def unique(names: Iterable[str]) -> list[str]:
    """The names with `_1`, `_2` … appended where one has come before, as Keras 2 does."""
    found: dict[str, None] = {}
    for name in names:
        candidate, n = name, 0
        while candidate in found:
            n += 1
            candidate = f"{name}_{n}"
        found[candidate] = None
    return list(found)
