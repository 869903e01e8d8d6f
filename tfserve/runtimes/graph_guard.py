"""Decides which tensors of a TensorFlow graph a request may feed and fetch, so that it can only compute.

The rule, where *effect* is an operation that changes state, uses files or runs code (`tfserve.runtimes.side_effects`):

1. A signature that writes files, restores weights or runs Python code, or whose inputs determine which file is read,
   is not offered, unless the operator allows unsafe operations.
2. Tensors that determine the file name of an effect can't be fed.
3. The effects that a request runs must all be those of one signature of the model, and whatever is fed to them an
   input of that signature. An effect in the branch of a condition that the request switches off does not run.

Nothing of TensorFlow is imported here; a graph is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from tfserve.errors import Invalid
from tfserve.runtimes.interface import listed
from tfserve.runtimes.side_effects import NONE, Effects, Operations

Aliases = Mapping[str, Mapping[str, str]]

_SWITCHES = frozenset({"Switch", "RefSwitch"})
_MERGES = frozenset({"Merge", "RefMerge"})


class Switch(NamedTuple):
    """A condition that decides whether an operation runs: the tensor, and its value for which it does."""

    tensor: Any
    runs_if: bool


class Required(NamedTuple):
    """A fed tensor that must have this value, so that nothing with a side effect runs."""

    tensor: str
    value: bool
    effect: str


class GraphGuard:
    """`constant_value` returns the value of a tensor that can't be anything else, or None."""

    def __init__(
        self, graph: Any, operations: Operations, inputs: Aliases, outputs: Aliases, constant_value: Any,
        *, allow_unsafe: bool = False,
    ) -> None:  # fmt: skip
        self._graph = graph
        self._operations = operations
        self._constant_value = constant_value
        self._effects: dict[Any, Effects] = {}
        self._inputs = {name: frozenset(tensors.values()) for name, tensors in inputs.items()}
        self._outputs = {name: frozenset(tensors.values()) for name, tensors in outputs.items()}
        #: the operations with a side effect that each signature runs
        self.effects = {name: self._of_signature(name) for name in outputs}
        #: why signatures are not offered
        self.refused = {name: why for name in outputs if not allow_unsafe and (why := self._why_refused(name))}
        self._declared = {name: each for name, each in self._inputs.items() if name not in self.refused}

    def check(self, feeds: Sequence[str], fetches: Sequence[str]) -> list[Required]:
        """Raises `Invalid` when a request with these feeds and fetches could have side effects.

        Otherwise returns the values that some of the feeds must have.
        """
        if any(self._is_declared(name, feeds, fetches) for name in self._declared):
            return []
        self._check_feeds(feeds)
        given, named = frozenset(feeds), {name.partition(":")[0] for name in fetches}
        run = self._run(fetches, given)
        effects = [each for each in run if self._effects_of(each) is not NONE]
        required = {each: None if each.name in named else self._switched_off(each, given) for each in effects}
        alive = [each for each, switch in required.items() if switch is None]
        if alive:
            self._check_effects(alive, given, fetches)
        return [switch for switch in required.values() if switch is not None and switch.tensor]

    # --- the rule

    def _is_declared(self, signature: str, feeds: Sequence[str], fetches: Sequence[str]) -> bool:
        return self._declared[signature].issuperset(feeds) and self._outputs[signature].issuperset(fetches)

    def _check_feeds(self, feeds: Sequence[str]) -> None:
        for name in feeds:
            if name in self._naming_tensors and name not in self._declared_inputs:
                raise Invalid(
                    f"{name!r} can't be fed: it determines which file {self._naming_tensors[name]} reads or writes."
                    " Feed the inputs of a signature, or tensors that are only used in computations."
                )

    def _check_effects(self, effects: Sequence[Any], given: frozenset[str], fetches: Sequence[str]) -> None:
        fed = {tensor.name for tensor in _ancestors(effects, given) if tensor.name in given}
        for name, inputs in self._declared.items():
            if self.effects[name].issuperset(effects) and inputs.issuperset(fed):
                return
        own = set().union(*(self.effects[name] for name in self._declared))
        strange = sorted((each for each in effects if each not in own), key=lambda each: str(each.name))
        if strange:
            raise Invalid(
                f"Fetching {listed(fetches, 5)} would run {strange[0].name!r}, {self._what(strange[0])}. Requests may"
                " only run the side effects that a signature of the model declares."
            )
        raise Invalid(
            f"Fetching {listed(fetches, 5)} runs {effects[0].name!r}, {self._what(effects[0])}. Feed only the inputs"
            f" of its signature; got {listed(sorted(fed))}."
        )

    def _what(self, operation: Any) -> str:
        types = self._effects_of(operation).types
        return f"which has a side effect ({', '.join(sorted(types)[:5])})"

    def _why_refused(self, name: str) -> str:
        for operation in sorted(self.effects[name], key=lambda each: str(each.name)):
            if outside := self._effects_of(operation).outside:
                return f"signature {name!r} is not available: it runs {outside[0]}, which reaches outside the model"
        naming = self._naming_of(self.effects[name], self._inputs[name])
        if named := sorted(self._inputs[name] & naming.keys()):
            return (
                f"signature {name!r} is not available: its input {named[0]!r} determines which file {naming[named[0]]}"
                " reads"
            )
        return ""

    # --- walking through the graph

    def _of_signature(self, name: str) -> frozenset[Any]:
        run = self._run(self._outputs[name], self._inputs[name])
        return frozenset(each for each in run if self._effects_of(each) is not NONE)

    def _run(self, fetches: Iterable[str], given: frozenset[str]) -> frozenset[Any]:
        """The operations that run for these tensors and operations, except those for fed tensors."""
        elements = [self._graph.as_graph_element(name) for name in fetches]
        operations = [getattr(each, "op", each) for each in elements if each.name not in given]
        seen = set(operations)
        while operations:
            operation = operations.pop()
            needed = [each.op for each in operation.inputs if each.name not in given]
            fresh = {each for each in (*needed, *operation.control_inputs) if each not in seen}
            seen |= fresh
            operations += fresh
        return frozenset(seen)

    def _effects_of(self, operation: Any) -> Effects:
        found = self._effects.get(operation)
        if found is None:
            found = self._operations.of(operation.type, lambda: operation.node_def.attr, len(operation.inputs))
            self._effects[operation] = found = found if found.types else NONE
        return found

    def _naming_of(self, operations: Iterable[Any], given: frozenset[str] = frozenset()) -> dict[str, str]:
        """The tensors that determine which files these operations use, each with the type of one such operation."""
        found: dict[str, str] = {}
        for operation in operations:
            effects = self._effects_of(operation)
            sources = [operation.inputs[n] for n in effects.naming]
            what = min(effects.types, default="")
            computed = [each.op for each in sources if each.name not in given]
            for tensor in (*sources, *_ancestors(computed, given, controls=False)):
                found.setdefault(tensor.name, what)
        return found

    @cached_property
    def _naming_tensors(self) -> dict[str, str]:
        return self._naming_of(self._graph.get_operations())

    @cached_property
    def _declared_inputs(self) -> frozenset[str]:
        return frozenset().union(*self._declared.values())

    # --- conditions

    def _switched_off(self, effect: Any, given: frozenset[str]) -> Required | None:
        """What prevents an operation from running: a constant (without a tensor's name), or a value to be fed."""
        requested = None
        for switch in self._switches(effect, given):
            if switch.tensor.name in given:
                requested = requested or Required(switch.tensor.name, not switch.runs_if, effect.name)
                continue
            value = self._constant_value(switch.tensor)
            if value is not None and bool(value) != switch.runs_if:
                return Required("", not switch.runs_if, effect.name)
        return requested

    def _switches(self, operation: Any, given: frozenset[str]) -> Iterator[Switch]:
        """The conditions of TensorFlow 1 in whose branch an operation is: if one is off, the operation does not run."""
        pending, seen = [operation], {operation}
        while pending:
            current = pending.pop()
            computed = [tensor for tensor in current.inputs if tensor.name not in given]
            for tensor in computed:
                if tensor.op.type in _SWITCHES:
                    yield Switch(_source(tensor.op.inputs[1], given), bool(tensor.value_index))
            before = {*(tensor.op for tensor in computed), *current.control_inputs} - seen
            seen |= before
            pending += [each for each in before if each.type not in _MERGES]


def _source(tensor: Any, given: frozenset[str]) -> Any:
    while tensor.name not in given and tensor.op.type in ("Identity", "PlaceholderWithDefault"):
        tensor = tensor.op.inputs[0]
    return tensor


def _ancestors(operations: Sequence[Any], given: frozenset[str], *, controls: bool = True) -> Iterator[Any]:
    """The tensors that the operations depend on, up to the fed ones."""
    pending, seen = list(operations), set(operations)
    while pending:
        operation = pending.pop()
        for tensor in operation.inputs:
            yield tensor
            if tensor.name not in given and tensor.op not in seen:
                seen.add(tensor.op)
                pending.append(tensor.op)
        fresh = set(operation.control_inputs) - seen if controls else set()
        seen |= fresh
        pending += fresh
