"""The few fields of TensorFlow's messages that the check of operations reads, for protobuf's own parser.

The messages that TensorFlow generates can be imported only with TensorFlow, which takes seconds. A parser of our own
could read a manipulated file differently from TensorFlow; this is the parser that TensorFlow uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "tfserve.check"
_TYPES = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _TYPES.TYPE_STRING, "bytes": _TYPES.TYPE_BYTES, "int32": _TYPES.TYPE_INT32}

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "SavedModel": {"meta_graphs": (2, "*MetaGraphDef")},
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaInfoDef"), "graph_def": (2, "GraphDef"), "saver_def": (3, "SaverDef"),
        "collection_def": (4, "{CollectionDef"), "signature_def": (5, "{SignatureDef"),
        "asset_file_def": (6, "*AssetFileDef"), "object_graph_def": (7, "SavedObjectGraph"),
    },
    "MetaInfoDef": {"tags": (4, "*string")},
    "SaverDef": {"filename_tensor_name": (1, "string"), "restore_op_name": (3, "string")},
    "CollectionDef": {"node_list": (1, "NodeList"), "bytes_list": (2, "BytesList")},
    "NodeList": {"value": (1, "*string")},
    "BytesList": {"value": (1, "*bytes")},
    "VariableDef": {"initializer_name": (2, "string")},
    "SignatureDef": {"inputs": (1, "{TensorInfo"), "outputs": (2, "{TensorInfo")},
    "TensorInfo": {"name": (1, "string"), "coo_sparse": (4, "CooSparse"), "composite_tensor": (5, "CompositeTensor")},
    "CooSparse": {"values": (1, "string"), "indices": (2, "string"), "dense_shape": (3, "string")},
    "CompositeTensor": {"components": (2, "*TensorInfo")},
    "AssetFileDef": {"tensor_info": (1, "TensorInfo"), "filename": (2, "string")},
    "SavedObjectGraph": {"nodes": (1, "*SavedObject"), "concrete_functions": (2, "{SavedConcreteFunction")},
    "SavedConcreteFunction": {"bound_inputs": (2, "*int32")},
    "SavedObject": {
        "children": (1, "*ObjectReference"), "asset": (5, "SavedAsset"), "function": (6, "SavedFunction"),
        "bare_concrete_function": (8, "SavedBareConcreteFunction"), "saveable_objects": (11, "{SaveableObject"),
    },
    "ObjectReference": {"node_id": (1, "int32"), "local_name": (2, "string")},
    "SavedAsset": {"asset_file_def_index": (1, "int32")},
    "SavedFunction": {"concrete_functions": (1, "*string")},
    "SavedBareConcreteFunction": {"concrete_function_name": (1, "string")},
    "SaveableObject": {"save_function": (2, "int32"), "restore_function": (3, "int32")},
    "GraphDef": {"node": (1, "*NodeDef"), "library": (2, "FunctionDefLibrary")},
    "FunctionDefLibrary": {"function": (1, "*FunctionDef"), "gradient": (2, "*GradientDef")},
    "GradientDef": {"function_name": (1, "string"), "gradient_func": (2, "string")},
    "FunctionDef": {"signature": (1, "OpDef"), "node_def": (3, "*NodeDef"), "attr": (5, "{AttrValue")},
    "OpDef": {"name": (1, "string"), "input_arg": (2, "*ArgDef")},
    "ArgDef": {"name": (1, "string")},
    "NodeDef": {"name": (1, "string"), "op": (2, "string"), "input": (3, "*string"), "attr": (5, "{AttrValue")},
    "AttrValue": {
        "list": (1, "ListValue"), "s": (2, "bytes"), "tensor": (8, "TensorProto"), "func": (10, "NameAttrList"),
    },
    "ListValue": {"s": (2, "*bytes"), "func": (9, "*NameAttrList")},
    "NameAttrList": {"name": (1, "string")},
    "TensorProto": {"string_val": (8, "*bytes")},
}  # fmt: skip


def parse(name: str, content: bytes) -> Any:
    """The message of this name. Raises `google.protobuf.message.DecodeError`."""
    return new(name).FromString(content)


@cache
def new(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="tfserve/check.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        _add(file.message_type.add(name=name), name, fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add(message: descriptor_pb2.DescriptorProto, name: str, fields: Mapping[str, tuple[int, str]]) -> None:
    """A type that begins with `*` is repeated, one that begins with `{` is the value of a map from strings."""
    for field, (number, type_) in fields.items():
        bare = type_.lstrip("*{")
        if type_.startswith("{"):
            entry = message.nested_type.add(name=f"{_camel(field)}Entry")
            entry.options.map_entry = True
            _field(entry, "key", 1, "string", repeated=False)
            _field(entry, "value", 2, bare, repeated=False)
            bare = f"{name}.{entry.name}"
        _field(message, field, number, bare, repeated=type_ != bare)


def _field(message: descriptor_pb2.DescriptorProto, name: str, number: int, type_: str, *, repeated: bool) -> None:
    field = message.field.add(name=name, number=number)
    field.label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
    if type_ in _SCALARS:
        field.type = _SCALARS[type_]
    else:
        field.type, field.type_name = _TYPES.TYPE_MESSAGE, f".{_PACKAGE}.{type_}"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
