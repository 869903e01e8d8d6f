"""A model may take seconds for a row: its batches stay short, and its copies are neither lost nor left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from tfserve.ipc.messages import ModelOptions
from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Refusal, to_tensor
from tfserve.runtimes.echo import EchoModel
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature, TensorSpec
from tfserve.worker.model.batches import BATCH_SHARE, Batches
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.concurrency import Way

X = TensorSpec("x", "float32", (-1, 1))
ROW_S = 0.02
LIMIT_S = 0.4


class Slow(EchoModel):
    """Takes some milliseconds for each row."""

    def __init__(self) -> None:
        super().__init__("echo", {DEFAULT_SIGNATURE: Signature((X,), (X,))})
        self.calls: list[int] = []

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        self.calls.append(len(inputs["x"]))
        time.sleep(ROW_S * len(inputs["x"]))
        return [inputs["x"]]


class Awaiting:
    """A web process that waits for a number of answers."""

    def __init__(self, answers: int) -> None:
        self.left = answers
        self.all_there = asyncio.Event()

    def answer(self, request_id: int, answer: ComputeResult | Refusal) -> None:
        assert isinstance(answer, ComputeResult)
        self.left -= 1
        if not self.left:
            self.all_there.set()

    def flush(self) -> None: ...


def ask(number: int) -> ComputeRequest:
    return ComputeRequest(DEFAULT_SIGNATURE, ("x",), (to_tensor(np.full((1, 1), number, np.float32)),), ("x",))


def test_batches_are_as_short_as_the_time_limit_requires() -> None:
    model = Slow()
    asyncio.run(compute(model))
    assert model.calls[0] == 1, "how long a row takes was not known"
    assert 1 < max(model.calls) <= LIMIT_S * BATCH_SHARE / ROW_S


async def compute(model: Slow) -> None:
    batches = Batches(Computation(model, threading.Lock()), ModelOptions(), time_limit_s=LIMIT_S)
    web = Awaiting(24)
    for number in range(24):
        batches.put(web, number, ask(number))
    await web.all_there.wait()


class Releasing(Slow):
    """Does `when_released` while its memory is released."""

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False
        self.when_released = lambda: None

    def release_memory(self) -> None:
        self.when_released()

    def close(self) -> None:
        self.is_closed = True


def failing() -> None:
    raise OSError("no memory to release memory")


def test_a_copy_outlives_a_failed_release_and_is_closed_if_given_up_meanwhile() -> None:
    asyncio.run(release_twice(Releasing()))


async def release_twice(copied: Releasing) -> None:
    computation = Computation(Slow(), threading.Lock())
    batches = Batches(computation, ModelOptions(), time_limit_s=LIMIT_S)
    batches._copy_way = Way(2, 1)
    computation.use(copied)
    copied.when_released = failing
    await batches._release()
    assert computation.use(copied) is copied
    loop = asyncio.get_running_loop()
    copied.when_released = lambda: asyncio.run_coroutine_threadsafe(given_up(batches), loop).result()
    await batches._release()
    assert copied.is_closed
    assert computation.use(None) is None


async def given_up(batches: Batches) -> None:
    batches._end_copy()
