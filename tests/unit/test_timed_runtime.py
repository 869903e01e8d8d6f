"""A hang is one call of the model that takes too long, not many calls, and not a wait for another thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Refusal, to_tensor
from tfserve.runtimes.echo import EchoModel
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature, TensorSpec
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.request_queue import Waiting
from tfserve.worker.model.timed_runtime import CallClock, InTurn, TimedRuntime

X = TensorSpec("x", "float32", (-1, 1))


class Noting(EchoModel):
    """Notes, whenever it is called, since when calls have run."""

    def __init__(self) -> None:
        super().__init__("echo", {DEFAULT_SIGNATURE: Signature((X,), (X,))})
        self.computation = Computation(self, threading.Lock())
        self.since_ns: list[int | None] = []

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        self.since_ns.append(self.computation.running_since_ns)
        return [inputs["x"]]


class Nobody:
    def answer(self, request_id: int, answer: ComputeResult | Refusal) -> None: ...

    def flush(self) -> None: ...


def test_each_call_of_a_batch_that_is_compared_has_its_own_time() -> None:
    model = Noting()
    asks = [
        ComputeRequest(DEFAULT_SIGNATURE, ("x",), (to_tensor(np.full((1, 1), n, np.float32)),), ("x",))
        for n in range(3)
    ]
    group, rows = model.computation.sort(asks[0])
    assert model.computation.row_ns(group) is None
    model.computation.run([Waiting(Nobody(), n, ask, rows, group, 0) for n, ask in enumerate(asks)])
    begun = [each for each in model.since_ns if each is not None]
    assert len(begun) == 4, "together, and each alone"
    assert sorted(set(begun)) == begun
    assert model.computation.running_since_ns is None
    assert model.computation.row_ns(group)


def test_a_wait_for_the_model_is_not_timed() -> None:
    clock = CallClock()
    seen: list[int | None] = []

    class Turn:
        def __enter__(self) -> None:
            seen.append(clock.oldest_ns)

        def __exit__(self, *_: object) -> None:
            seen.append(clock.oldest_ns)

    TimedRuntime(EchoModel("echo", {DEFAULT_SIGNATURE: Signature((X,), (X,))}), Turn(), clock).run(
        {"x": np.zeros((1, 1), np.float32)}, ["x"], DEFAULT_SIGNATURE
    )
    assert seen == [None, None]


def test_a_thread_that_takes_a_lock_again_lets_another_one_have_it_first() -> None:
    turn, order = InTurn(threading.Lock()), []

    def other() -> None:
        with turn:
            order.append("other")

    thread = threading.Thread(target=other)
    with turn:
        thread.start()
        while not turn.is_awaited:
            pass
    with turn:
        order.append("again")
    thread.join()
    assert order == ["other", "again"]
