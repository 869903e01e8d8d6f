"""What a worker keeps of one request holds for others: how they are computed, but never that one was refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tfserve.errors import Invalid, Overloaded, Unsupported
from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Refusal, to_array, to_tensor
from tfserve.runtimes.echo import EchoModel
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature, TensorSpec
from tfserve.worker.model.batching import BatchPlan
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.preprocessing import Preprocessing
from tfserve.worker.model.request_queue import Waiting

Compute = Callable[[Array], Array]


class Numpy(EchoModel):
    """Computes in numpy, and remembers the shape of each call."""

    def __init__(self, compute: Compute, shape: Sequence[int], dtype: str = "float32") -> None:
        spec = TensorSpec("x", dtype, tuple(shape))
        super().__init__("echo", {DEFAULT_SIGNATURE: Signature((spec,), (spec,))})
        self.compute = compute
        self.calls: list[tuple[int, ...]] = []
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        self.calls.append(inputs["x"].shape)
        return [self.compute(inputs["x"])]


class Nobody:
    def answer(self, request_id: int, answer: ComputeResult | Refusal) -> None: ...

    def flush(self) -> None: ...


def compute(computation: Computation, *arrays: Array, urgency: int = 3) -> list[Any]:
    """The answers, computed together where that is allowed: lists, or messages of refusals."""
    waiting = []
    for n, array in enumerate(arrays):
        ask = ComputeRequest(DEFAULT_SIGNATURE, ("x",), (to_tensor(array),), ("x",), urgency)
        group, rows = computation.sort(ask)
        waiting.append(Waiting(Nobody(), n, ask, rows, group, 0))
    groups = {request.group: [each for each in waiting if each.group == request.group] for request in waiting}
    answers = [answer for group in groups.values() for answer in computation.run(group)]
    return [
        each.failure.message if isinstance(each, Refusal) else to_array(each.tensors[0]).tolist() for each in answers
    ]


def serving(compute: Compute, *shape: int, dtype: str = "float32") -> tuple[Numpy, Computation]:
    model = Numpy(compute, shape, dtype)
    return model, Computation(model, threading.Lock())


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def test_a_request_that_was_refused_does_not_refuse_later_ones_of_another_size() -> None:
    _, computation = serving(lambda x: x, 4, 3)
    for _ in range(2):
        assert "takes float32 of shape [4, 3], got float32 of shape [1, 3]" in compute(computation, ones(1, 3))[0]
        assert compute(computation, ones(4, 3)) == [ones(4, 3).tolist()]


def test_a_request_that_was_computed_does_not_let_later_ones_of_another_size_through() -> None:
    model, computation = serving(lambda x: x, 4, 3)
    assert compute(computation, ones(4, 3)) == [ones(4, 3).tolist()]
    assert "got float32 of shape [5, 3]" in compute(computation, ones(5, 3))[0]
    assert model.calls == [(4, 3)]


def test_a_list_and_a_scalar_are_not_taken_for_each_other() -> None:
    model, computation = serving(lambda x: x, -1)
    assert compute(computation, ones(2)) == [[1, 1]]
    assert "got float32 of shape []" in compute(computation, np.float32(1)[...])[0]
    assert compute(computation, ones(2)) == [[1, 1]]
    assert model.calls == [(2,), (2,)]


def test_a_refusal_of_the_model_itself_is_not_kept() -> None:
    def positive(x: Array) -> Array:
        if x.min() <= 0:
            raise Invalid("x must be positive")
        return x

    _, computation = serving(positive, -1, 1)
    for _ in range(3):
        assert compute(computation, -ones(1, 1), ones(1, 1), ones(2, 1)) == [
            "x must be positive", [[1]], [[1], [1]],
        ]  # fmt: skip


def test_that_batches_were_right_for_one_shape_proves_nothing_for_another() -> None:
    """This model mixes the rows of long inputs only."""
    _, computation = serving(lambda x: x if x.shape[1] < 3 else x - x.mean(axis=0), -1, -1)
    for _ in range(4):
        assert compute(computation, ones(1, 2), 2 * ones(1, 2)) == [[[1, 1]], [[2, 2]]]
    for _ in range(4):
        assert compute(computation, ones(1, 3), 2 * ones(1, 3)) == [[[0, 0, 0]], [[0, 0, 0]]]


def test_requests_of_one_shape_share_a_batch_whatever_their_urgency_was_when_it_was_proved() -> None:
    model, computation = serving(lambda x: 2 * x, -1, 1)
    for urgency in (1, 2):
        compute(computation, ones(1, 1), 3 * ones(1, 1), urgency=urgency)
    model.calls.clear()
    compute(computation, ones(1, 1), 3 * ones(1, 1), urgency=5)
    assert model.calls == [(2, 1)]


def test_batches_that_synthetic_rows_have_proved_are_checked_with_real_ones() -> None:
    model, computation = serving(lambda x: x if x.max() < 10 else 0 * x, -1, 1)
    for _ in range(4):
        compute(computation, ones(1, 1), 3 * ones(1, 1))
    computation.check_again()
    for _ in range(2):
        assert compute(computation, ones(1, 1), 10 * ones(1, 1)) == [[[1]], [[0]]]
    assert model.calls[-2:] == [(1, 1), (1, 1)]


def test_texts_that_a_model_pads_to_the_longest_are_computed_alone() -> None:
    def padded(x: Array) -> Array:
        lengths = [len(each) for each in x.ravel()]
        return np.array([[length - max(lengths)] for length in lengths], np.float32)

    model, computation = serving(padded, -1, dtype="string")
    rows = [np.array([bytes([97 + at]) * n], object) for at, n in enumerate((2, 2, 2, 1, 2, 5, 2, 2))]
    for _ in range(4):
        compute(computation, *rows[:2])
    computation.check_again()
    model.calls.clear()
    assert compute(computation, *rows) == [[[0]]] * 8
    assert model.calls[0] == (8,)


class Counting(Numpy):
    """Keeps how often it was computed."""

    is_stateful = can_reset_state = True

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:
        return True

    def reset_state(self) -> None:
        self.calls.clear()


def test_a_stateful_model_computes_each_request_once_and_alone() -> None:
    model = Counting(lambda x: x, (-1, 1))
    computation = Computation(model, threading.Lock())
    for _ in range(4):
        model.calls.clear()
        compute(computation, ones(1, 1), 2 * ones(1, 1), 3 * ones(2, 1))
        assert model.calls == [(1, 1), (1, 1), (2, 1)]


class Copied(Numpy):
    """Has a copy, which computes `copied`."""

    is_shareable = False

    def __init__(self, compute: Compute, copied: Compute) -> None:
        super().__init__(compute, (-1, 1))
        self.copy = Numpy(copied, (-1, 1))

    def narrowed(self, computations: int) -> Numpy:
        return self.copy


def narrow(computation: Computation, array: Array) -> Any:
    ask = ComputeRequest(DEFAULT_SIGNATURE, ("x",), (to_tensor(array),), ("x",))
    group, rows = computation.sort(ask)
    (answer,) = computation.run([Waiting(Nobody(), 1, ask, rows, group, 0)], is_narrow=True)
    assert isinstance(answer, ComputeResult)
    return to_array(answer.tensors[0]).tolist()


def test_a_copy_computes_what_it_is_asked_to_until_the_state_may_change() -> None:
    model = Copied(lambda x: 2 * x, lambda x: x + x)
    computation = Computation(model, threading.Lock())
    assert narrow(computation, ones(1, 1)) == [[2.0]]
    computation.use(computation.narrowed(2))
    model.calls.clear()
    assert narrow(computation, ones(1, 1)) == [[2.0]]
    assert model.calls == []
    computation.share_state()
    assert narrow(computation, ones(1, 1)) == [[2.0]]
    assert model.calls == [(1, 1)]
    assert computation.use(None) is model.copy


def test_a_copy_with_other_numbers_is_refused() -> None:
    model = Copied(lambda x: 2 * x, lambda x: 2.001 * x)
    computation = Computation(model, threading.Lock())
    compute(computation, ones(1, 1))
    with pytest.raises(Unsupported, match="other numbers"):
        computation.narrowed(2)


def test_samples_that_the_model_rejects_are_left_out_of_the_comparison_of_a_copy() -> None:
    def positive(x: Array) -> Array:
        if x.min() <= 0:
            raise Invalid("x must be positive")
        return 2 * x

    model = Copied(positive, lambda x: 2 * x)
    computation = Computation(model, threading.Lock())
    for n in range(-3, 0):  # those of a former version
        computation.samples.keep(ComputeRequest(DEFAULT_SIGNATURE, ("x",), (to_tensor(n * ones(1, 1)),), ("x",)))
    with pytest.raises(Unsupported):
        computation.narrowed(2)
    compute(computation, ones(1, 1))
    assert computation.narrowed(2) is model.copy
    assert model.copy.calls == [(1, 1)]


def test_a_copy_that_fails_is_closed() -> None:
    def failing(x: Array) -> Array:
        raise Invalid("too many threads")

    model = Copied(lambda x: x, failing)
    computation = Computation(model, threading.Lock())
    compute(computation, ones(1, 1))
    with pytest.raises(Invalid):
        computation.narrowed(2)
    assert model.copy.is_closed


def test_a_copy_is_not_made_without_a_request_to_compare_it_with() -> None:
    with pytest.raises(Unsupported):
        Computation(Copied(lambda x: x, lambda x: x), threading.Lock()).narrowed(2)


def test_a_copy_has_to_fit_into_the_memory_limit() -> None:
    computation = Computation(Copied(lambda x: x, lambda x: x), threading.Lock(), memory_limit_bytes=1)
    compute(computation, ones(1, 1))
    with pytest.raises(Overloaded, match="memory"):
        computation.narrowed(2)


def test_batches_of_equal_requests_are_looked_at_ever_more_rarely() -> None:
    plan = BatchPlan("s", {}, [], [])
    looked_at = [number for number in range(1, 40) if plan.begins_check()]
    assert looked_at == [1, 2, 4, 8, 16, 32]
    plan.check_again()
    assert plan.begins_check()


class OfFiles(Numpy):
    """Takes encoded files too: each number is its own encoding."""

    computed_by = {"decoded": DEFAULT_SIGNATURE}

    def __init__(self, compute: Compute) -> None:
        super().__init__(compute, (-1, 1))
        signature = self.signatures[DEFAULT_SIGNATURE]
        self.signatures = {**self.signatures, "files": signature}
        self.inner = {"decoded": signature}

    def prepares(self, signature: str) -> str | None:
        return "decoded" if signature == "files" else None

    def prepare(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(inputs)

    def model_inputs(self, made: Mapping[str, Array]) -> dict[str, Array]:
        return dict(made)


def test_a_file_that_the_model_rejects_is_not_a_sample() -> None:
    def positive(x: Array) -> Array:
        if x.min() <= 0:
            raise Invalid("x must be positive")
        return x

    computation = Computation(OfFiles(positive), threading.Lock())
    asks = [ComputeRequest("files", ("x",), (to_tensor(n * ones(1, 1)),), ("x",)) for n in (-1, 1)]
    asyncio.run(computed(computation, asks))
    assert computation.samples.all() == asks[1:]


async def computed(computation: Computation, asks: Sequence[ComputeRequest]) -> None:
    """Preprocesses the requests and computes them."""
    passed: asyncio.Queue[Waiting] = asyncio.Queue()
    preprocessing = Preprocessing(computation, pass_on=passed.put_nowait, has_enough=lambda: False)
    for n, ask in enumerate(asks):
        preprocessing.put(Nobody(), n, ask)
    for _ in asks:
        request = await passed.get()
        request.group, request.rows = computation.sort(request.ask)
        computation.run([request])
