"""The variables of a SavedModel are restored before its graph is imported, where its saver only assigns tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tfserve import runtimes
from tfserve.models import formats
from tfserve.runtimes import restore_plan
from tfserve.runtimes.restore_plan import RestorePlan

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own


@pytest.fixture
def meta(models: Path) -> Any:
    return SavedModel.FromString((models / "v2" / "saved_model.pb").read_bytes()).meta_graphs[0]


def saver_of(meta: Any) -> Any:
    called = next(node for node in meta.graph_def.node if node.name == meta.saver_def.restore_op_name)
    return next(each for each in meta.graph_def.library.function if each.signature.name == called.attr["f"].func.name)


def of_type(meta: Any, op: str) -> Any:
    return next(node for node in saver_of(meta).node_def if node.op == op)


def test_every_variable_has_a_tensor_of_the_checkpoint(meta: Any) -> None:
    plan = restore_plan.make(meta, "prefix")
    assert plan is not None
    variables = [node for node in meta.graph_def.node if node.op == "VarHandleOp"]
    assert plan.restored == {restore_plan.resource_of(each) for each in variables}
    assert all(each.key.endswith(b"/.ATTRIBUTES/VARIABLE_VALUE") for each in plan.assignments)


def shuffle(node: Any) -> None:
    node.op = "Mul"


def lose_name(meta: Any) -> None:
    for node in meta.graph_def.node:
        if node.op == "VarHandleOp":
            node.attr["shared_name"].s = b""


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: shuffle(of_type(meta, "Identity")),
        lambda meta: meta.ClearField("saver_def"),
        lambda meta: of_type(meta, "RestoreV2").input.__setitem__(0, "other"),
        lose_name,
    ],
    ids=["computes", "no saver", "another file", "no shared names"],
)
def test_a_saver_that_does_anything_else_restores_the_model_itself(meta: Any, change: Callable[[Any], None]) -> None:
    change(meta)
    assert restore_plan.make(meta, "prefix") is None


def test_both_ways_give_the_same_numbers(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [first_output(models / "v2")]
    monkeypatch.setattr(RestorePlan, "write_graph", fail)
    outputs.append(first_output(models / "v2"))
    np.testing.assert_array_equal(*outputs)


def fail(*_: object) -> None:
    raise RuntimeError("the plan can't be carried out")


def first_output(path: Path) -> Any:
    model = runtimes.load(formats.locate(str(path)), device="/cpu:0")
    signature = model.signatures["serving_default"]
    random = np.random.default_rng(1)
    inputs = {
        spec.name: random.random([3 if size == -1 else size for size in spec.shape or ()]).astype(spec.dtype)
        for spec in signature.inputs
    }
    (output,) = model.run(inputs, [signature.outputs[0].name], "serving_default")
    return output


def test_functions_that_only_savers_call_are_left_out_of_the_graph(meta: Any) -> None:
    kept = [each.name.partition(":")[0] for each in meta.signature_def["serving_default"].outputs.values()]
    functions = restore_plan.without_savers(meta.graph_def, kept)
    saver = saver_of(meta).signature.name
    (empty,) = (each for each in functions if each.signature.name == saver)
    assert {node.op for node in empty.node_def} == {"Placeholder", "NoOp"}
    assert empty.signature == saver_of(meta).signature
    complete = [each for each in functions if not any(node.op == "RestoreV2" for node in each.node_def)]
    assert len(complete) == len(functions)
