"""Whether a LiteRT file keeps values between calls, read from its flatbuffer.

There are two ways: variables (VAR_HANDLE, ASSIGN_VARIABLE, set once by CALL_ONCE), and tensors that recurrent layers
write to, which keep their values until the interpreter resets them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Keeps:
    """What is written by computing a signature, other than its outputs."""

    variables: bool = False
    tensors: bool = False

    def __bool__(self) -> bool:
        return self.variables or self.tensors


def find(content: bytes) -> Keeps:
    """What any signature of a file keeps; what is only assigned once, when it is loaded, does not count."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    codes = [_code(model.OperatorCodes(n)) for n in range(model.OperatorCodesLength())]
    builtin = schema.BuiltinOperator
    once = {
        _initialised(schema, operator)
        for subgraph in _subgraphs(model)
        for operator in _operators(subgraph)
        if codes[operator.OpcodeIndex()] == builtin.CALL_ONCE
    }
    computed = [subgraph for n, subgraph in enumerate(_subgraphs(model)) if n not in once]
    return Keeps(
        variables=any(
            codes[operator.OpcodeIndex()] == builtin.ASSIGN_VARIABLE
            for subgraph in computed
            for operator in _operators(subgraph)
        ),
        tensors=any(subgraph.Tensors(n).IsVariable() for subgraph in computed for n in range(subgraph.TensorsLength())),
    )


def _code(code: Any) -> int:
    """Older files have the code in a field of one byte."""
    return max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))


def _initialised(schema: Any, operator: Any) -> int:
    """The subgraph that a CALL_ONCE runs."""
    options, table = schema.CallOnceOptions(), operator.BuiltinOptions()
    if table is None:
        return 0
    options.Init(table.Bytes, table.Pos)
    return int(options.InitSubgraphIndex())


def _subgraphs(model: Any) -> Iterator[Any]:
    return map(model.Subgraphs, range(model.SubgraphsLength()))


def _operators(subgraph: Any) -> Iterator[Any]:
    return map(subgraph.Operators, range(subgraph.OperatorsLength()))
