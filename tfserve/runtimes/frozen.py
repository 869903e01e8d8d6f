"""A signature with its weights written into its graph, as a new SavedModel.

Converters load a SavedModel as Python objects, and fail where a class of such an object is not here: an optimizer with
its slots, a layer of somebody's own. What is served needs none of that: a graph and a session.
"""

from __future__ import annotations

from pathlib import Path

from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import frozen_graph, tensorflow


def write(saved_model: Path, name: str, folder: Path) -> None:
    """Writes the signature `name` of `saved_model` into `folder`. Raises what TensorFlow raises."""
    import tensorflow as tf

    loaded = tensorflow.load(Located(formats.SAVED_MODEL, saved_model, None), device="/cpu:0")
    try:
        graph, inputs, outputs = loaded.freeze(name)
    finally:
        loaded.close()
    with tf.Graph().as_default() as new:
        tf.graph_util.import_graph_def(graph, name="")
        sides = [{each: new.get_tensor_by_name(tensor) for each, tensor in side.items()} for side in (inputs, outputs)]
        frozen_graph.save(tf, new, inputs=sides[0], outputs=sides[1], folder=folder, signature=name)
