"""Resolves names in a TensorFlow graph: first as a collection's key, then in the signature, then as a tensor.

Nothing of TensorFlow is imported here; a graph is handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tfserve.errors import Invalid, nearest
from tfserve.runtimes.interface import ResolvedName, find_signature, listed
from tfserve.tensors.specs import Signature, TensorSpec

OWN_SCOPE = "tfserve_"
"""Begins the names of operations that the server adds to a graph, which requests can't use."""

Aliases = Mapping[str, Mapping[str, str]]
"""For each signature, the tensor of each of its names."""


class GraphNames:
    """Resolves the names in requests. `inputs` and `outputs` map the names of signatures to tensors.

    `refused` are signatures that the model has but does not offer, and why.
    """

    def __init__(
        self, graph: Any, signatures: Mapping[str, Signature], inputs: Aliases, outputs: Aliases, *,
        refused: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._graph = graph
        self._refused = refused
        self._signatures = signatures
        self._inputs = inputs
        self._outputs = outputs
        self._collections = {key for key in graph.get_all_collection_keys() if isinstance(key, str)}
        self._specs = {
            tensors[spec.name]: spec
            for name, signature in signatures.items()
            for tensors, specs in ((inputs[name], signature.takes), (outputs[name], signature.outputs))
            for spec in specs
        }

    def feeds(self, name: str, signature: str) -> Sequence[ResolvedName]:
        """The tensors that take a value given as `name`. Raises `Invalid`."""
        elements = self._elements(name, signature, self._inputs, "input")
        for element in elements:
            if _is_operation(element) or not self._graph.is_feedable(element):
                raise Invalid(f"Input {name!r} refers to {element.name!r}, which can't be fed.")
        return [self._target(element) for element in elements]

    def fetches(self, name: str, signature: str) -> Sequence[ResolvedName]:
        """The tensors and operations to fetch for `name`. Raises `Invalid`."""
        return [self._target(each) for each in self._elements(name, signature, self._outputs, "output")]

    def missing(self, inputs: Iterable[str], outputs: Iterable[str], signature: str) -> list[str]:
        """The placeholders that the outputs depend on and that are not given, by their names in the signature."""
        given = set(inputs)
        aliases = {tensor: alias for alias, tensor in self._inputs.get(signature, {}).items()}
        pending = [self._graph.as_graph_element(name) for name in outputs]
        seen, needed = set(), []
        while pending:
            element = pending.pop()
            operation = element if _is_operation(element) else element.op
            if element.name in given or operation in seen:
                continue
            seen.add(operation)
            if operation.type == "Placeholder":
                needed.append(f"{operation.name}:0")
            pending += [*operation.inputs, *operation.control_inputs]
        return sorted(aliases.get(name, name) for name in needed)

    def reaches(self, outputs: Sequence[str], operations: Collection[str]) -> bool:
        """Whether computing the outputs may run one of these operations."""
        if not operations:
            return False
        pending = [self._graph.as_graph_element(name) for name in outputs]
        seen = set()
        while pending:
            element = pending.pop()
            operation = element if _is_operation(element) else element.op
            if operation.name in operations:
                return True
            if operation not in seen:
                seen.add(operation)
                pending += [*operation.inputs, *operation.control_inputs]
        return False

    def element(self, name: str) -> Any:
        """The tensor or operation of a target, or of a name in a graph."""
        return self._graph.as_graph_element(name)

    def _elements(self, name: str, signature: str, aliases: Aliases, what: str) -> list[Any]:
        if signature in self._refused:
            raise Invalid(f"The {self._refused[signature]}.")
        find_signature(self._signatures, signature)
        if name in self._collections:
            return self._collection(name)
        tensor = aliases.get(signature, {}).get(name)
        if tensor is not None:
            return [self._graph.as_graph_element(tensor)]
        found = self._by_graph_name(name)
        if found is None:
            raise self._unknown(name, signature, aliases, what)
        return [found]

    def _collection(self, key: str) -> list[Any]:
        try:
            return [self._value_of(self._graph.as_graph_element(each)) for each in self._graph.get_collection(key)]
        except (TypeError, ValueError):
            raise Invalid(f"The collection {key!r} of the graph contains more than tensors and operations.") from None

    def _by_graph_name(self, name: str) -> Any:
        """A tensor by its name, or by that of its operation if it is the only output; else an operation without any."""
        try:
            found = self._graph.as_graph_element(name)
        except (KeyError, ValueError):
            return None
        if found.name.startswith(OWN_SCOPE):
            return None
        if _is_operation(found) and len(found.outputs) == 1:
            found = found.outputs[0]
        if _is_operation(found) and found.outputs:
            return None
        return self._value_of(found)

    def _value_of(self, element: Any) -> Any:
        """For the handle of a variable, the tensor that reads it; otherwise the element itself."""
        if _is_operation(element) or element.op.type != "VarHandleOp":
            return element
        try:
            return self._graph.as_graph_element(f"{element.op.name}/Read/ReadVariableOp:0")
        except KeyError:
            return element

    def _target(self, element: Any) -> ResolvedName:
        if _is_operation(element):
            return ResolvedName(element.name, None)
        if element.name in self._specs:
            return ResolvedName(element.name, self._specs[element.name])
        shape = None if element.shape.rank is None else tuple(-1 if s is None else s for s in element.shape.as_list())
        return ResolvedName(element.name, TensorSpec(element.name, element.dtype.base_dtype.name, shape))

    def _unknown(self, name: str, signature: str, aliases: Aliases, what: str) -> Invalid:
        tensors = [
            tensor.name
            for operation in self._graph.get_operations()
            for tensor in operation.outputs
            if not tensor.name.startswith(OWN_SCOPE)
        ]
        own = list(aliases.get(signature, {}))
        collections = sorted(self._collections)
        words = [f"{what}s of the signature {signature!r}: {listed(own)}"] if own else []
        if not own and self._signatures:
            words.append(f"signatures: {listed(self._signatures)}")
        if collections:
            words.append(f"collections: {listed(collections)}")
        words.append(f"tensors: {listed(tensors)}")
        close = nearest(name, own) or nearest(name, collections) or nearest(name, tensors)
        return Invalid(f"The model has no {what} {name!r}{close}. Available: {'; '.join(words)}.")


def _is_operation(element: Any) -> bool:
    return not hasattr(element, "op")
