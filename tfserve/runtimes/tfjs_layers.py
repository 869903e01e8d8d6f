"""Layers models of TensorFlow.js as SavedModels: the configuration of a Keras model, and its weights by their names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfserve.errors import Invalid
from tfserve.models import tfjs
from tfserve.runtimes import keras, keras_file, tfjs_weights
from tfserve.runtimes.interface import listed
from tfserve.runtimes.keras_file import KerasFile
from tfserve.tensors import Array


def export(file: Path, folder: Path) -> None:
    """Writes a SavedModel, as for a file that Keras saved. Raises `Invalid`, with the cause."""
    model = tfjs.read(file)
    topology = model.model_topology
    config = topology.get("model_config", topology)
    if not isinstance(config, dict) or "class_name" not in config:
        raise Invalid(f"{file} has no model_config with a class_name in its modelTopology. Save or copy it again.")
    description = KerasFile(False, str(topology.get("keras_version", "2")), config)
    keras_file.check(file, description)
    weights = tfjs_weights.read(file, model)
    keras.export_model(file, description, lambda module, *_: _load(module, file, description, weights), folder)


def _load(module: Any, file: Path, description: KerasFile, weights: dict[str, Array]) -> Any:
    known = {"custom_objects": keras.additions(module)} if description.is_legacy else {}
    model = module.models.model_from_json(json.dumps(description.config), **known)
    if not model.built:
        raise Invalid(f"{file} does not say the shape of its input. Save it with an input layer.")
    _set_weights(file, model, weights)
    return model


def _set_weights(file: Path, model: Any, weights: dict[str, Array]) -> None:
    """Each variable gets the array with its name; all of both must match."""
    left = dict(weights)
    for variable, names in _variables(model):
        name = next((each for each in names if each in left), None)
        if name is None:
            raise Invalid(f"{file} has no weights for {names[0]!r}. It has: {listed(list(left))}.")
        array = left.pop(name)
        if tuple(array.shape) != tuple(variable.shape):
            raise Invalid(
                f"{file} has the weights {name!r} with the shape {list(array.shape)}; the layer has"
                f" {list(variable.shape)}."
            )
        variable.assign(array)
    if left:
        raise Invalid(f"{file} has weights that no layer has: {listed(list(left))}.")


def _variables(model: Any) -> Iterator[tuple[Any, list[str]]]:
    """The variables of a model, each with the names that TensorFlow.js may use for it."""
    for variable in model.weights:
        name = str(getattr(variable, "path", None) or variable.name).partition(":")[0]
        parts = name.split("/")
        # Recurrent layers have the name of their cell in between, or not, depending on the version.
        yield variable, [name, "/".join((*parts[:-2], parts[-1]))]
