"""Finds operations of TensorFlow with side effects: they read or write files, change state, or run code.

Those that use files, Python or the network are in the table of `tfserve.runtimes.operation_check`. Of all others, those
that TensorFlow calls stateful have a side effect unless they are listed here as harmless, so one that is new or unknown
is refused rather than allowed. Nothing of TensorFlow is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from tfserve.runtimes.operation_check.operations import READS_FILES, file_of_attribute, table

_HARMLESS = re.compile(
    r"_?ReadVariable(s)?Op|_?VarHandle(s)?Op|Variable(V2|Shape)?|VarIsInitializedOp|IsVariableInitialized"
    r"|ResourceGather(Nd)?|LookupTable(Find|Size)(V2)?|(Anonymous)?(Mutable)?(Dense)?HashTable(OfTensors)?(V2)?"
    r"|Ref(Switch|Select|Exit|Merge|NextIteration|Enter|Identity)|TensorArray\w*|Stack(V2|PushV2|PopV2|CloseV2)?"
    r"|StackPush|StackPop|StackClose|Random\w+|Multinomial|\w*TruncatedNormal|StatelessRandomGetAlg|\w+CandidateSampler"
    r"|SampleDistortedBoundingBox(V2)?|NonDeterministicInts|Assert|Print(V2)?|CheckNumerics(V2)?|GuaranteeConst|Empty|DeepCopy"
    r"|_?If|_?While|Case|StatefulPartitionedCall|Xla(Launch|CallModule|If|While)|CudnnRNN\w*|_Arg|_Retval|_DeviceArg"
    r"|_DeviceRetval|Timestamp|DisableCopyOnRead|GraphDefVersion|DeviceIndex|IsTensorFloat32Enabled"
    r"|RangeDataset|TensorDataset|TensorSliceDataset|SparseTensorSliceDataset|ReduceDataset|DatasetToSingleElement"
)
"""Stateful in TensorFlow's sense, but only reads what is in memory, draws random numbers, or calls functions."""

_QUEUES = re.compile(r"Random(Shuffle)?Queue(V2)?|RandomDataset(V2)?")

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


class Effects(NamedTuple):
    """The side effects of an operation and of the functions that it calls.

    `types` are the types of operations with a side effect. `naming` are the positions of the inputs that select
    files.
    """

    types: frozenset[str]
    naming: frozenset[int]

    @property
    def outside(self) -> list[str]:
        """Effects that no request may cause, even if a signature declares them."""
        unsafe = table().unsafe
        return sorted(each for each in self.types if each in unsafe and unsafe[each].category != READS_FILES)


Attributes = Mapping[str, Any] | Callable[[], Mapping[str, Any]]

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

    def of(self, type_: str, attributes: Attributes, inputs: int) -> Effects:
        """The effects of one operation with `inputs` inputs; `attributes` are only read where they matter."""
        if type_ in self._functions:
            return self._functions[type_]
        if (unsafe := table().unsafe.get(type_)) is not None:
            if unsafe.attribute and not file_of_attribute(unsafe, lambda: _read(attributes)):
                return self._state_of(type_)
            naming = range(inputs) if unsafe.inputs is None else unsafe.inputs
            return Effects(frozenset({type_}), frozenset(naming))
        if names := self._function_attributes(type_):
            read = _read(attributes)
            return self._of_functions(type_, [read[name] for name in names if name in read], inputs)
        return self._state_of(type_)

    def _state_of(self, type_: str) -> Effects:
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
        """The effects of a function, including those of functions that it calls. A recursive call counts as none."""
        function = pending.pop(name)
        for node in function.node_def:
            for called in (node.op, *_called(node)):
                if called in pending:
                    self._summarise(called, pending)
        effects = {node.name: self.of(node.op, node.attr, len(_data(node))) for node in function.node_def}
        types = frozenset().union(*(each.types for each in effects.values()))
        naming = _arguments_that_reach(function, effects) if types else frozenset()
        self._functions[name] = Effects(types, naming)


def _read(attributes: Attributes) -> Mapping[str, Any]:
    return attributes() if callable(attributes) else attributes


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
