"""Inspects files saved by Keras, without Keras: which version wrote them, and whether they are safe to load.

Loading a model runs code that its configuration names. So the configuration is checked first, in the same way for
every version of Keras: it may only name layers, initializers, activations and the like of Keras, and operations of
TensorFlow that compute.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfserve.errors import Invalid
from tfserve.runtimes.operation_check.operations import table

HAS_CODE = (
    "it has a Lambda layer, which contains Python code that would run inside this server."
    " Replace it with a built-in layer (Rescaling, keras.ops in a functional model), or export the"
    " model as a SavedModel with model.export(folder)."
)
LOST_LAMBDA = (
    "its layer {layer!r} has a Python lambda as {key}, and the file does not contain its code. Use a built-in {key}, or"
    " export the model as a SavedModel with model.export(folder), or model.save(folder) in Keras 2."
)
SAVED_LAMBDA = (
    "its layer {layer!r} has a Python lambda as {key}, which contains Python code that would run inside this server."
    " Use a built-in {key}, or export the model as a SavedModel with model.export(folder)."
)
NOT_KERAS = "it is not a Keras model, or it was not completely saved or copied. Save or copy it again."
WEIGHTS_ONLY = (
    "it contains weights but no model (save_weights writes such files). Build the model"
    " in Python, call model.load_weights({name!r}) and model.save('model.keras'), and deploy that file."
)

_CODE = frozenset({"Lambda", "__lambda__"})
_KERAS_MODULE = re.compile(r"(tf_)?keras(\..+)?|builtins|tensorflow\.python\.framework\..+")
_FUNCTION_MODULES = re.compile(r"builtins|(tf_)?keras\.(.+\.)?(activations|losses|metrics)(\..+)?")
_OPERATORS = frozenset({"TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"})
"""Layers that call what their configuration names: a function of TensorFlow, or an attribute of a tensor."""
_NAMESPACES = (
    r"__operators__|audio|bitwise|dtypes|experimental\.numpy|image|keras\.activations|linalg|math|nn|ragged|random|sets"
    r"|signal|sparse|strings"
)
_TOP_LEVEL = (
    "abs acos acosh add add_n argmax argmin argsort as_string asin asinh assert_equal assert_greater assert_less"
    " assert_rank atan atan2 atanh batch_to_space bitcast boolean_mask broadcast_dynamic_shape broadcast_static_shape"
    " broadcast_to case cast clip_by_global_norm clip_by_norm clip_by_value complex concat cond constant"
    " convert_to_tensor cos cosh count_nonzero cross cumprod cumsum depth_to_space diag div divide dynamic_partition"
    " dynamic_stitch edit_distance einsum ensure_shape equal exp expand_dims extract_volume_patches eye fill"
    " fingerprint floor floor_div floordiv floormod gather gather_nd greater greater_equal group guarantee_const"
    " histogram_fixed_width identity identity_n is_finite is_inf is_nan less less_equal lin_space linspace log log1p"
    " logical_and logical_not logical_or logical_xor matmul matrix_diag matrix_square_root maximum meshgrid minimum mod"
    " multiply negative no_op norm not_equal one_hot ones ones_like pad parallel_stack pow random_normal"
    " random_uniform range rank realdiv reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min"
    " reduce_prod reduce_std reduce_sum repeat reshape reverse reverse_sequence roll round rsqrt saturate_cast"
    " scalar_mul scatter_nd searchsorted segment_max segment_mean segment_sum sequence_mask shape shape_n sigmoid sign"
    " sin sinh size slice sort space_to_batch space_to_batch_nd space_to_depth split sqrt square squared_difference"
    " squeeze stack stop_gradient strided_slice string_join string_split subtract substr switch_case tan tanh"
    " tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min tensor_scatter_nd_sub tensor_scatter_nd_update"
    " tensordot tile to_float to_int32 to_int64 transpose truediv truncatediv truncatemod tuple unique"
    " unique_with_counts unravel_index unsorted_segment_sum unstack where where_v2 zeros zeros_like"
)
_COMPUTES = re.compile(
    rf"(compat\.v[12]\.)?(({_NAMESPACES})\.\w+(\.\w+)*|{_TOP_LEVEL.replace(' ', '|')}"
    r"|io\.(decode|encode|parse|serialize|deserialize)_\w+|quantization\.(?!experimental)\w+|debugging\.(assert|check)_\w+"
    r"|keras\.backend\.(?!eval|function|clear|get_|set_|print|reset)\w+)"
)
"""The functions of TensorFlow's API, by their full names, that only compute: they read, write and load nothing."""
_TENSOR_CLASSES = re.compile(r"(compat\.v[12]\.)?(RaggedTensor|SparseTensor|sparse\.SparseTensor|IndexedSlices)?")
_OTHER_OPERATIONS = re.compile(r"\w*(Dataset|Reader)\w*|Print\w*")
"""Operations that a layer does not need, although they use no files."""
_VOCABULARY = "vocabulary"


@dataclass(frozen=True)
class KerasFile:
    """`is_zip` is the format of Keras 3 and of Keras 2.12 and later, the other is HDF5. `version` may be empty."""

    is_zip: bool
    version: str
    config: Any

    @property
    def is_legacy(self) -> bool:
        """Whether it was written by Keras 1 or 2."""
        major = self.version.partition(".")[0]
        return not major.isdigit() or int(major) < 3


def read(file: Path) -> KerasFile:
    """The model's configuration in a file with any suffix. Raises `Invalid`."""
    try:
        found = _read_zip(file) if zipfile.is_zipfile(file) else _read_hdf5(file)
    except Invalid:
        raise
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise Invalid(f"{file} can't be loaded: {NOT_KERAS}") from error
    check(file, found)
    return found


def check(file: Path, found: KerasFile) -> None:
    """Raises `Invalid` if the configuration names anything that a server must not run."""
    for problem in _problems(found.config):
        raise Invalid(f"{file} can't be loaded: {problem}")


def _read_zip(file: Path) -> KerasFile:
    with zipfile.ZipFile(file) as archive:
        if "config.json" not in archive.namelist() and any(name.endswith(".h5") for name in archive.namelist()):
            raise _weights_only(file)
        for name in archive.namelist():
            if name.endswith(".h5"):
                with archive.open(name) as weights:
                    _check_links(file, weights)
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}
        config = json.loads(archive.read("config.json"))
        if isinstance(config, dict):
            config.pop("compile_config", None)  # not used with compile=False, unlike that of a model inside this one
        return KerasFile(True, str(metadata.get("keras_version", "3")), config)


def _read_hdf5(file: Path) -> KerasFile:
    import h5py

    _check_links(file, file)
    with h5py.File(file, "r") as content:
        if "model_config" not in content.attrs:
            raise _weights_only(file) if _has_weights(content) else _another_hdf5(file, list(content))
        config, version = (_text(content.attrs.get(name, "")) for name in ("model_config", "keras_version"))
    return KerasFile(False, version, json.loads(config))


def _check_links(file: Path, content: Any) -> None:
    """Raises `Invalid` if an HDF5 file takes a part of its content from another file."""
    import h5py

    def problem(name: str, link: Any) -> str | None:
        if isinstance(link, h5py.ExternalLink):
            return f"{name!r} leads to {link.filename!r}"
        found = opened.get(name) if isinstance(link, h5py.HardLink) else None
        if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
            return f"{name!r} is stored in another file"
        return None

    with h5py.File(content, "r") as opened:
        if (found := opened.visititems_links(problem)) is not None:
            raise Invalid(f"{file} can't be loaded: its weights {found}. Save the model again as one file.")


def _has_weights(content: Any) -> bool:
    """Whether it was written by `save_weights` of Keras 2, or of Keras 3."""
    return "layer_names" in content.attrs or not {"layers", "_layer_checkpoint_dependencies"}.isdisjoint(content)


def _weights_only(file: Path) -> Invalid:
    return Invalid(f"{file} can't be loaded: {WEIGHTS_ONLY.format(name=file.name)}")


def _another_hdf5(file: Path, groups: list[str]) -> Invalid:
    found = ", ".join(groups[:5]) or "nothing"
    return Invalid(f"{file} can't be loaded: it is an HDF5 file that contains no Keras model (it contains: {found}).")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _problems(model: Any) -> Iterator[str]:
    """Everything in a configuration that a server must not run."""
    for each in _objects(model):
        name = re.split(r"[.>]", str(each.get("class_name", "")))[-1]
        if name in _CODE or "function_type" in each or str(each.get("registered_name")).endswith(">Lambda"):
            yield HAS_CODE
        yield from _problem_of_module(each, name)
        config = each.get("config")
        if isinstance(config, dict):
            yield from _problem_of_lambda(name, config)
        if isinstance(config, dict) and isinstance(config.get(_VOCABULARY), str):
            yield _outside_file(name, config[_VOCABULARY])
        if name in _OPERATORS and isinstance(config, dict):
            yield from _problem_of_operation(name, config)
        if name == "TensorFlowOpLayer" and isinstance(config, dict):
            yield from _problem_of_node(config.get("node_def"))


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """All objects in a configuration, however deep."""
    pending = [config]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            yield each
            pending += each.values()
        elif isinstance(each, list):
            pending += each


def _problem_of_module(each: dict[str, Any], name: str) -> Iterator[str]:
    module = each.get("module")
    if not isinstance(module, str) or "class_name" not in each:
        return
    if not _KERAS_MODULE.fullmatch(module):
        called = each.get("registered_name") or name
        yield custom_class(str(each["config"] if name == "function" else called))
    elif name == "function" and not _FUNCTION_MODULES.fullmatch(module):
        yield f"it refers to the function {each.get('config')!r} of {module}, which a model must not call."


def _problem_of_lambda(name: str, config: dict[str, Any]) -> Iterator[str]:
    layer = config.get("name", name)
    for key, value in config.items():
        if value == "<lambda>" and key != "name":
            yield LOST_LAMBDA.format(layer=layer, key=key)
        elif _is_code(value):
            yield SAVED_LAMBDA.format(layer=layer, key=key)


def _is_code(value: Any) -> bool:
    """Whether it is a Python function as Keras saves it: its code, defaults and closure."""
    saved = value["value"] if isinstance(value, dict) and value.keys() == {"value"} else None
    return isinstance(saved, list) and len(saved) == 3 and isinstance(saved[0], str)


def _problem_of_operation(name: str, config: dict[str, Any]) -> Iterator[str]:
    function, cls = config.get("function"), config.get("cls_symbol")
    attribute = str(config.get("attr_name") or config.get("method_name") or "")
    is_known = (function is None or _COMPUTES.fullmatch(str(function))) and _TENSOR_CLASSES.fullmatch(str(cls or ""))
    if not is_known or attribute.startswith("_"):
        yield _forbidden(name, str(function or cls or attribute))


def _problem_of_node(node: Any) -> Iterator[str]:
    operation = str(node.get("op")) if isinstance(node, dict) else ""
    if not operation or table().find(operation) is not None or _OTHER_OPERATIONS.fullmatch(operation):
        yield _forbidden("TensorFlowOpLayer", operation)


def _outside_file(layer: str, file: str) -> str:
    return (
        f"its {layer} layer reads its vocabulary from the file {file!r}, outside the model. Set the vocabulary as a"
        " list and save the model again."
    )


def _forbidden(layer: str, called: str) -> str:
    return (
        f"its {layer} layer calls {called!r}, which is not on the list of functions without side effects. Export the"
        " model as a SavedModel with model.export(folder)."
    )


def custom_class(name: str) -> str:
    """The error for a class that exists only in the program that created the model."""
    return (
        f"its class {name!r} is not built into Keras, and the server does not have its code. Export the"
        " model as a SavedModel with model.export(folder), which contains the computation itself."
    )
