"""A signature with its weights written into its graph, as a new SavedModel.

Converters load a SavedModel as Python objects, and fail where a class of such an object is not here: an optimizer with
its slots, a layer of somebody's own. What is served needs none of that: a graph and a session.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import tensorflow


def write(saved_model: Path, name: str, folder: Path) -> None:
    """Writes the signature `name` of `saved_model` into `folder`. Raises what TensorFlow raises."""
    import tensorflow as tf

    loaded = tensorflow.load(Located(formats.SAVED_MODEL, saved_model, None), device="/cpu:0")
    try:
        graph, inputs, outputs = loaded.freeze(name)
    finally:
        loaded.close()
    with tf.Graph().as_default() as new, tf.compat.v1.Session(graph=new) as session:
        tf.graph_util.import_graph_def(graph, name="")
        describe = tf.compat.v1.saved_model.build_tensor_info
        sides = [
            {each: describe(new.get_tensor_by_name(tensor)) for each, tensor in side.items()}
            for side in (inputs, outputs)
        ]
        builder: Any = tf.compat.v1.saved_model.Builder(str(folder))
        definition = tf.compat.v1.saved_model.build_signature_def(*sides, method_name="tensorflow/serving/predict")
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={name: definition})
        builder.save()
