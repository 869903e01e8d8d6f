"""A model may refuse what the server makes up: that is a remark. What it computes leaves no trace in its state."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.ipc import frames, predictions
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import BecomeModel, ModelOptions, WarmUpStep
from tfserve.ipc.predictions import ComputeRequest, to_tensor
from tfserve.runtimes.echo import EchoModel
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature, TensorSpec
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.predictor import Predictor
from tfserve.worker.model.warm_up import LIGHT_CPU_S, PROOF_ROWS, WarmUp, WarmUpResult
from tfserve.worker.model.warm_up_steps import Steps

Inputs = Mapping[str, Array]


class Picky(EchoModel):
    """Computes only what `check` lets pass: it says why not, or nothing."""

    def __init__(self, check: Callable[[Inputs], str], *specs: TensorSpec) -> None:
        super().__init__("echo", {DEFAULT_SIGNATURE: Signature(specs, (TensorSpec("y", specs[0].dtype, (-1,)),))})
        self.check = check
        self.computed: list[Inputs] = []

    def missing(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> list[str]:
        return [spec.name for spec in self.signatures[signature].inputs if spec.name not in inputs]

    def run(self, inputs: Inputs, outputs: Sequence[str], signature: str) -> list[Array | None]:
        if problem := self.check(inputs):
            raise Invalid(problem)
        self.computed.append(inputs)
        first = next(iter(inputs.values()))
        return [first.reshape((len(first), -1))[:, 0] if first.ndim else first]


class Line:
    """What the supervisor hears of the steps."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self.connection = BlockingConnection(theirs)

    def heard(self) -> list[tuple[str, bool]]:
        self.connection.close()
        data = b"".join(iter(lambda: self._ours.recv(65536), b""))
        messages = [message for _, message in frames.FrameReader().feed(data)]
        return [(each.step, each.has_ended) for each in messages if isinstance(each, WarmUpStep)]

    def close(self) -> None:
        self.connection.close()
        self._ours.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def warm(
    model: Any, line: Line, *, skip: Sequence[str] = (), samples: Sequence[ComputeRequest] = (), limit_s: float = 60,
    **options: Any,
) -> WarmUpResult:  # fmt: skip
    steps = Steps(line.connection, limit_s=limit_s, skip=skip)
    computation = Computation(model, threading.Lock())
    encoded = [msgspec.msgpack.encode(ask) for ask in samples]
    become = BecomeModel(workspace="w", path="p", samples=encoded, options=ModelOptions(**options))
    return WarmUp(model, Predictor(model), computation, steps=steps).run(become)


X = TensorSpec("x", "float32", (-1, 2))


def nothing_wrong(_: Inputs) -> str:
    return ""


def positive(inputs: Inputs) -> str:
    return "" if inputs["x"].min() > 0 else "the price must be positive"


def invertible(inputs: Inputs) -> str:
    return "" if abs(np.linalg.det(inputs["x"])).min() > 1e-3 else "the matrix is not invertible"


def in_fours(inputs: Inputs) -> str:
    return "" if len(inputs["x"]) % 4 == 0 else "the batch must be a multiple of 4"


def with_sizes(inputs: Inputs) -> str:
    return "" if inputs["size"].min() > 0 else "sizes must be positive"


def long_enough(inputs: Inputs) -> str:
    return "" if inputs["x"].shape[1] >= 20 else "the signal is too short"


@pytest.mark.parametrize(
    ("check", "specs", "accepted"),
    [
        (positive, [X], "ones"),
        (invertible, [TensorSpec("x", "float32", (-1, 3, 3))], "small random numbers"),
        (in_fours, [X], "ones (4 rows)"),
        (with_sizes, [X, TensorSpec("size", "int32", (2,))], "ones"),
        (with_sizes, [X, TensorSpec("size", "int64", (-1, 1))], "ones"),
        (long_enough, [TensorSpec("x", "float32", (-1, -1))], "small random numbers (open sizes of 32)"),
    ],
)
def test_a_model_that_refuses_zeros_is_warmed_up_with_what_it_computes(
    line: Line, check: Callable[[Inputs], str], specs: list[TensorSpec], accepted: str
) -> None:
    model = Picky(check, *specs)
    result = warm(model, line)
    assert f"signature 'serving_default' with {accepted}; zeros" in "; ".join(result.done)
    assert model.computed
    if check is not long_enough:  # that the size was guessed wrong says nothing of the model
        assert any("the model rejected zeros" in remark for remark in result.remarks)


@pytest.mark.parametrize("check", [nothing_wrong, positive, in_fours])
def test_batches_are_proved_with_inputs_that_the_model_computes(line: Line, check: Callable[[Inputs], str]) -> None:
    model = Picky(check, X)
    result = warm(model, line, max_batch_size=16)
    assert any(done.startswith("batches of ") for done in result.done)
    assert max(len(each["x"]) for each in model.computed) >= 4


class Heavy(Picky):
    """Takes more processor time for a row than may pass before the model serves."""

    def run(self, inputs: Inputs, outputs: Sequence[str], signature: str) -> list[Array | None]:
        until = time.process_time() + 2 * LIGHT_CPU_S
        while time.process_time() < until:
            pass
        return super().run(inputs, outputs, signature)


def test_batches_of_a_larger_model_are_compared_later(line: Line) -> None:
    model = Heavy(nothing_wrong, X)
    result = warm(model, line, max_batch_size=16)
    assert {len(each["x"]) for each in model.computed} == {1}, "it serves before any batch was compared"
    assert result.done[-1] == "batches are compared as soon as the model is quiet"
    assert result.later is not None
    result.later()
    assert max(len(each["x"]) for each in model.computed) >= PROOF_ROWS
    assert result.done[-1].startswith("batches of ")


class Lengthy(Picky):
    """Takes 50 ms for a row, without using a core."""

    def run(self, inputs: Inputs, outputs: Sequence[str], signature: str) -> list[Array | None]:
        time.sleep(0.05 * len(inputs["x"]))
        return super().run(inputs, outputs, signature)


def test_batches_of_a_model_that_takes_long_for_a_row_are_left_to_real_requests(line: Line) -> None:
    model = Lengthy(nothing_wrong, X)
    result = warm(model, line, limit_s=1)
    assert result.later is None
    assert result.done[-1].startswith("batches are compared at load, because a row takes 0.0")
    assert {len(each["x"]) for each in model.computed} == {1}
    assert "batches" not in {step for step, _ in line.heard()}


def test_a_signature_whose_rows_take_too_long_is_left_out(line: Line) -> None:
    model = Lengthy(nothing_wrong, X)
    model.signatures["other"] = model.signatures[DEFAULT_SIGNATURE]
    result = warm(model, line, limit_s=1)
    later = result.later
    if later is not None:
        later()
    assert {len(each["x"]) for each in model.computed} == {1}
    assert [done for done in result.done if done.startswith("batches of")] == []


def test_recorded_requests_take_a_part_of_the_time_limit_only(line: Line) -> None:
    """The process would end if all of them together counted as one computation."""
    asks = [
        ComputeRequest(DEFAULT_SIGNATURE, ("x",), (to_tensor(np.full((1, 2), n, np.float32)),), ("y",))
        for n in range(16)
    ]
    model = Lengthy(nothing_wrong, X)
    result = warm(model, line, samples=asks, limit_s=0.6)
    (sentence,) = [done for done in result.done if "recorded predictions" in done]
    assert 1 <= int(sentence.split()[0]) < 16
    assert {len(each["x"]) for each in model.computed} == {1}


def test_a_process_that_serves_is_not_ended_by_a_step_that_takes_long(line: Line) -> None:
    steps = Steps(line.connection, limit_s=0.01, skip=[])
    with steps.begin("batches", is_serving=True):
        time.sleep(0.1)
    assert line.heard() == [("batches", False), ("batches", True)]


def test_a_model_that_refuses_everything_is_served_with_a_remark(line: Line) -> None:
    result = warm(Picky(lambda _: "no", X), line)
    (remark,) = result.remarks
    assert remark.startswith("not warmed up, so the first request may take longer: the model rejected zeros and ones")
    assert "(no)" in remark


def test_without_a_warm_up_nothing_is_computed(line: Line) -> None:
    model = Picky(nothing_wrong, X)
    assert warm(model, line, warm_up=False) == WarmUpResult(["none, as set in the deployment"], [])
    assert model.computed == []
    assert line.heard() == []


@pytest.mark.parametrize(
    "example", [{"x": [[5, 5]]}, {"inputs": {"x": [[5, 5]]}}, {"fetches": "y", "feed_dict": {"x": [[5, 5]]}}]
)
def test_an_example_takes_the_place_of_what_is_made_up(line: Line, example: dict[str, Any]) -> None:
    model = Picky(lambda inputs: "" if inputs["x"].max() == 5 else "made up!", X)
    assert warm(model, line, warm_up=example) == WarmUpResult(["the given example"], [])
    assert [each["x"].tolist() for each in model.computed] == [[[5, 5]]]


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ({"z": [[5, 5]]}, "no input 'z'"),
        ({"x": [[1, 2, 3]]}, "takes float32 of shape [-1, 2]"),
        ({"x": "text"}, "x"),
        ({}, "is missing 'x'"),
        ({"signature": "gone", "inputs": {"x": [[1, 2]]}}, "no signature 'gone'"),
        ({"signature": 5, "inputs": {"x": [[1, 2]]}}, "signature"),
        ({"fetches": 7}, "fetches"),
    ],
)
def test_an_example_that_is_refused_is_a_remark(line: Line, example: dict[str, Any], words: str) -> None:
    (remark,) = warm(EchoModel("echo", {DEFAULT_SIGNATURE: Signature((X,), (X,))}), line, warm_up=example).remarks
    assert remark.startswith("not warmed up: the given example was rejected")
    assert words in remark


def test_former_requests_prove_batches_where_made_up_inputs_are_refused(line: Line) -> None:
    model = Picky(lambda inputs: "" if inputs["x"].min() >= 100 else "too small", X)
    asks = [
        ComputeRequest(DEFAULT_SIGNATURE, ("x",), (to_tensor(np.full((1, 2), 100 + n, np.float32)),), ("y",))
        for n in range(3)
    ]
    result = warm(model, line, samples=asks)
    assert "3 recorded predictions" in result.done
    assert [len(each["x"]) for each in model.computed].count(3) == 2, "computed together, twice"


def test_steps_are_reported_and_those_to_be_skipped_are_left_out(line: Line) -> None:
    model = Picky(positive, X)
    result = warm(model, line, skip=["zeros"])
    assert result.remarks == []
    assert line.heard() == [("ones", False), ("ones", True), ("batches", False), ("batches", True)]


class Counting(Picky):
    is_stateful = can_reset_state = True

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:
        return True

    def reset_state(self) -> None:
        self.computed.clear()


def test_a_stateful_model_is_as_new_after_its_warm_up_and_was_computed_alone(line: Line) -> None:
    model = Counting(nothing_wrong, X)
    result = warm(model, line)
    assert result.done == ["signature 'serving_default' with zeros"]
    assert model.computed == []


def test_a_state_that_can_t_be_restored_is_left_alone(line: Line) -> None:
    model = Counting(nothing_wrong, X)
    model.can_reset_state = False
    assert warm(model, line).done == ["none, because the model's state could not be restored afterwards"]
    assert model.computed == []


def test_text_and_open_sizes_are_made_up_too(line: Line) -> None:
    model = Picky(nothing_wrong, TensorSpec("text", "string", (-1,)), TensorSpec("n", "int32", (-1, -1)))
    assert warm(model, line).done[0] == "signature 'serving_default' with zeros"
    assert predictions.to_tensor(model.computed[0]["text"]).dtype == "string"
