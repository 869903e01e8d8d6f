"""Which operations of TensorFlow do more than compute: they read or write files, change state, or run code.

Operations that TensorFlow calls stateful have a side effect unless they are listed as harmless, so one that is new or
unknown is refused rather than allowed. Nothing of TensorFlow is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

_OUTSIDE = re.compile(
    r"Save\w*|MergeV2Checkpoints|DistributedSave|WriteFile|(Experimental)?DatasetToTFRecord|Restore\w*|DTensorRestoreV2"
    r"|CreateSummary\w+|Write\w*Summary|ImportEvent|\w*PyFunc\w*|Debug(Identity|NanCount|NumericSummary)(V\d)?"
    r"|DumpTensor|CalibrationStatisticsSaver|FileSystemSetConfiguration|Rpc\w+|DataService\w+"
)
"""Writes files, replaces weights by those in a file, runs code of the process, or calls other servers."""

_READS_FILES = re.compile(
    r"ReadFile|MatchingFiles|InitializeTableFromTextFile(V2)?|Reader(Read|ReadUpTo)(V2)?|LoadAndRemapMatrix|LoadDataset"
    r"|(Experimental)?(TFRecord|TextLine|FixedLengthRecord|CSV|Sql|LMDB|MatchingFiles)Dataset(V2)?|CacheDataset(V2)?"
    r"|Snapshot\w+|ListSnapshotChunksDataset|RecordInput"
)

_NAMING_INPUTS: dict[str, tuple[int, ...]] = {
    "Save": (0, 1), "SaveSlices": (0, 1, 2), "SaveV2": (0, 1, 2), "WriteFile": (0,), "SaveDataset": (1,),
    "SaveDatasetV2": (1,), "DatasetToTFRecord": (1,), "ExperimentalDatasetToTFRecord": (1,), "CacheDataset": (1,),
    "CacheDatasetV2": (1,), "SnapshotDataset": (1,), "SnapshotDatasetV2": (1,), "LoadAndRemapMatrix": (0, 1),
}  # fmt: skip
"""The inputs that say which file is meant, and which tensors of it; where an operation is not listed, all do."""

_NAMELESS = re.compile(r"\w*PyFunc\w*|Write\w*Summary|ImportEvent|Debug\w+|DumpTensor|CalibrationStatisticsSaver")
"""No input says which file is meant: it is in the graph, or there is none."""

_HARMLESS = re.compile(
    r"_?ReadVariable(s)?Op|_?VarHandle(s)?Op|Variable(V2|Shape)?|VarIsInitializedOp|IsVariableInitialized"
    r"|ResourceGather(Nd)?|LookupTable(Find|Size)(V2)?|(Anonymous)?(Mutable)?(Dense)?HashTable(OfTensors)?(V2)?"
    r"|Ref(Switch|Select|Exit|Merge|NextIteration|Enter|Identity)|TensorArray\w*|Stack(V2|PushV2|PopV2|CloseV2)?"
    r"|StackPush|StackPop|StackClose|Random\w+|Multinomial|\w*TruncatedNormal|StatelessRandomGetAlg|\w+CandidateSampler"
    r"|SampleDistortedBoundingBox(V2)?|NonDeterministicInts|Assert|Print|CheckNumerics(V2)?|GuaranteeConst|Empty|DeepCopy"
    r"|_?If|_?While|Case|StatefulPartitionedCall|Xla(Launch|CallModule|If|While)|CudnnRNN\w*|_Arg|_Retval|_DeviceArg"
    r"|_DeviceRetval|Timestamp|DisableCopyOnRead|GraphDefVersion|DeviceIndex|IsTensorFloat32Enabled"
    r"|RangeDataset|TensorDataset|TensorSliceDataset|SparseTensorSliceDataset|ReduceDataset|DatasetToSingleElement"
)
"""Stateful in TensorFlow's sense, but only reads what is in memory, draws random numbers, or calls functions."""

_QUEUES = re.compile(r"Random(Shuffle)?Queue(V2)?|RandomDataset(V2)?")

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


class Effects(NamedTuple):
    """What an operation does beside computing, itself or in the functions that it calls.

    `types` are the types of operations with a side effect. `naming` are the positions of the inputs that say which
    files are meant.
    """

    types: frozenset[str]
    naming: frozenset[int]

    @property
    def outside(self) -> list[str]:
        """Those that no caller may reach, whatever a signature declares."""
        return sorted(each for each in self.types if _OUTSIDE.fullmatch(each))


NONE = Effects(frozenset(), frozenset())


class Operations:
    """The effects of single operations and of a graph's functions.

    `definition` returns TensorFlow's definition of a type of operation, or None. `library` are the functions.
    """

    def __init__(self, definition: Callable[[str], Any], library: Iterable[Any] = ()) -> None:
        self._definition = definition
        self._functions: dict[str, Effects] = {}
        pending = {function.signature.name: function for function in library}
        while pending:
            self._summarise(next(iter(pending)), pending)

    def of(self, type_: str, attributes: Mapping[str, Any] | Callable[[], Mapping[str, Any]], inputs: int) -> Effects:
        """The effects of one operation with so many `inputs`; `attributes` are only read where they matter."""
        if type_ in self._functions:
            return self._functions[type_]
        if _OUTSIDE.fullmatch(type_) or _READS_FILES.fullmatch(type_):
            naming = () if _NAMELESS.fullmatch(type_) else _NAMING_INPUTS.get(type_, tuple(range(inputs)))
            return Effects(frozenset({type_}), frozenset(naming))
        names = self._function_attributes(type_)
        if names or type_ == "PrintV2":
            read = attributes() if callable(attributes) else attributes
            if type_ == "PrintV2":
                is_file = bytes(read["output_stream"].s).startswith(b"file:")
                return Effects(frozenset({"WriteFile"}), frozenset()) if is_file else NONE
            return self._of_functions(type_, [read[name] for name in names if name in read], inputs)
        return Effects(frozenset({type_}), frozenset()) if self._changes_state(type_) else NONE

    def _of_functions(self, type_: str, attributes: Sequence[Any], inputs: int) -> Effects:
        called = [self._functions.get(name, NONE) for each in attributes for name in _function_names(each)]
        types = frozenset().union(*(each.types for each in called))
        if self._changes_state(type_):
            types |= {type_}
        if type_ in _CALLS and len(called) == 1:
            return Effects(types, called[0].naming)
        return Effects(types, frozenset(range(inputs)) if any(each.naming for each in called) else frozenset())

    @cache  # noqa: B019 - there are about a hundred types, and one of these objects for each model
    def _changes_state(self, type_: str) -> bool:
        definition = self._definition(type_)
        if definition is None:
            return True  # of a library that was loaded into this process
        if _HARMLESS.fullmatch(type_) and not _QUEUES.fullmatch(type_):
            return False
        return bool(definition.is_stateful) or any(each.is_ref for each in definition.input_arg)

    @cache  # noqa: B019
    def _function_attributes(self, type_: str) -> list[str]:
        definition = self._definition(type_)
        attributes = definition.attr if definition is not None else ()
        return [each.name for each in attributes if each.type in ("func", "list(func)")]

    # --- functions

    def _summarise(self, name: str, pending: dict[str, Any]) -> None:
        """The effects of a function, and first of those that it calls. One that calls itself has none meanwhile."""
        function = pending.pop(name)
        for node in function.node_def:
            for called in (node.op, *_called(node)):
                if called in pending:
                    self._summarise(called, pending)
        effects = {node.name: self.of(node.op, node.attr, len(_data(node))) for node in function.node_def}
        types = frozenset().union(*(each.types for each in effects.values()))
        naming = _arguments_that_reach(function, effects) if types else frozenset()
        self._functions[name] = Effects(types, naming)


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        yield from _function_names(value)


def _function_names(attribute: Any) -> list[str]:
    """The functions in an attribute, which holds one or a list of them, as a message or as TensorFlow's own object."""
    if hasattr(attribute, "func"):
        return [each.name for each in (attribute.func, *attribute.list.func) if each.name]
    several = attribute if isinstance(attribute, list | tuple) else [attribute]
    return [each.name for each in several]


def _data(node: Any) -> list[str]:
    return [name for name in node.input if not name.startswith("^")]


def _arguments_that_reach(function: Any, effects: Mapping[str, Effects]) -> frozenset[int]:
    """The positions of a function's arguments that its operations take as names of files, computed or as they are."""
    nodes = {node.name: node for node in function.node_def}
    arguments = {argument.name: n for n, argument in enumerate(function.signature.input_arg)}
    pending = [_data(node)[n] for name, node in nodes.items() for n in effects[name].naming]
    found: set[int] = set()
    seen: set[str] = set()
    while pending:
        name = pending.pop().partition(":")[0]
        if name in arguments:
            found.add(arguments[name])
        elif name in nodes and name not in seen:
            seen.add(name)
            pending += _data(nodes[name])
    return frozenset(found)
