"""A model worker's own socket: batches of what has arrived, errors that stay alone, requests that nobody waits for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_process import StartWorker, WorkerProcess

from tfserve.errors import Invalid, TFserveError, TimedOut
from tfserve.ipc.messages import ModelLoaded, ModelOptions, ModelVersion
from tfserve.tensors.specs import Array
from tfserve.web.predictions.live_models import LiveModels, Model
from tfserve.web.predictions.request import Caller, CallerGone, PredictionRequest, PredictionResult

pytestmark = pytest.mark.slow  # its processes import TensorFlow

Use = Callable[[Callable[[Model], Awaitable[Any]]], Any]


async def never(_: str) -> None:
    raise AssertionError("no other runtime is needed here")


class Served:
    """A worker with a model, and a line to it as web has it."""

    def __init__(self, worker: WorkerProcess, path: Path, time_limit_s: float = 60.0, **options: Any) -> None:
        self.address = f"\0tfserve-test-{os.getpid()}-{worker.process.pid}"
        self.worker = worker
        loaded = worker.load(path, address=self.address, options=ModelOptions(**options), time_limit_s=time_limit_s)
        assert isinstance(loaded, ModelLoaded), loaded
        self.loaded = loaded

    def use(self, what: Callable[[Model], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            models = LiveModels(timeout_s=30, limit=10_000, wake=never)
            told = ModelVersion(
                id=1, version=1, state="active", addresses=[self.address], signatures=self.loaded.signatures
            )
            await models.begin({"m": [told]})
            try:
                return await what(models.get("m"))
            finally:
                await models.change("m", [])
                await asyncio.sleep(0)  # the line is closed behind this turn of the loop

        return asyncio.run(run())


@pytest.fixture
def serve(start_worker: StartWorker, models: Path) -> Callable[..., Served]:
    return lambda name, **options: Served(start_worker(), models / name, **options)


def request(*values: float, **fields: Any) -> PredictionRequest:
    return PredictionRequest({"x": np.array([values], np.float32)}, **fields)


def test_every_answer_belongs_to_its_own_request(serve: Callable[..., Served]) -> None:
    """Thousands at once, so that they share batches, each with numbers of its own."""

    async def all_at_once(model: Model) -> tuple[list[Array], set[int]]:
        results = await asyncio.gather(*(model.predict(request(n, -n)) for n in range(3000)))
        return [result.outputs["y"] for result in results], set(model.statistics.batches)

    answers, sizes = serve("versions").use(all_at_once)
    assert np.array_equal(np.concatenate(answers), [[3 * n, -3 * n] for n in map(np.float32, range(3000))])
    assert max(sizes) > 1, "what waited was computed together"
    assert max(sizes) <= ModelOptions().max_batch_size


def test_one_bad_request_in_a_batch_fails_alone(serve: Callable[..., Served]) -> None:
    async def one_of_many(model: Model) -> list[Any]:
        inputs = [np.array([-1.0 if n == 7 else n], np.float32) for n in range(20)]
        asked = [model.predict(PredictionRequest({"x": each}, "positive")) for each in inputs]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    results = serve("versions").use(one_of_many)
    assert isinstance(results[7], Invalid)
    assert "negative" in results[7].message
    assert all(results[n].outputs["y"][0] == np.sqrt(np.float32(n)) for n in range(20) if n != 7)


def test_rows_that_a_model_mixes_are_never_computed_together(serve: Callable[..., Served]) -> None:
    async def centred(model: Model) -> list[Any]:
        asked = [model.predict(request(n, 2 * n, signature="centred")) for n in range(50)]
        return list(await asyncio.gather(*asked))

    assert all(not result.outputs["y"].any() for result in serve("versions").use(centred))


def test_requests_of_different_shapes_are_not_mixed(serve: Callable[..., Served]) -> None:
    async def both(model: Model) -> list[Any]:
        rows = [np.full((n % 3 + 1, 2), n, np.float32) for n in range(60)]
        return list(await asyncio.gather(*(model.predict(PredictionRequest({"x": each})) for each in rows)))

    for n, result in enumerate(serve("versions").use(both)):
        assert np.array_equal(result.outputs["y"], np.full((n % 3 + 1, 2), 3.0 * n, np.float32))


def test_what_does_not_fit_the_signature_is_refused_with_what_it_takes(serve: Callable[..., Served]) -> None:
    async def wrong(model: Model) -> list[str]:
        told = []
        for inputs, outputs in (({"x": np.zeros((1, 3), np.float32)}, ()), ({}, ()), ({"x": np.zeros((1, 2))}, ())):
            with pytest.raises(TFserveError) as error:
                await model.predict(PredictionRequest(inputs, outputs=outputs))
            told.append(error.value.message)
        with pytest.raises(TFserveError) as error:
            await model.predict(PredictionRequest({"x": np.zeros((1, 2), np.float32)}, outputs=["z"]))
        return [*told, error.value.message]

    shape, missing, dtype, output = serve("versions").use(wrong)
    assert "float32 of shape [-1, 2]" in shape
    assert "'x'" in missing
    assert "float64" in dtype
    assert "'y'" in output


def test_a_request_that_nobody_waits_for_is_dropped(serve: Callable[..., Served]) -> None:
    """Behind a long computation wait two: one whose client goes, one whose time passes, and one that stays."""

    async def behind_a_long_one(model: Model) -> tuple[int, int]:
        caller = Caller()
        long = asyncio.ensure_future(model.predict(count(200_000)))
        gone = asyncio.ensure_future(model.predict(count(1, caller=caller)))
        late = asyncio.ensure_future(model.predict(count(1, timeout_s=0.05)))
        stays = asyncio.ensure_future(model.predict(count(1)))
        with pytest.raises(TimedOut):
            await late
        caller.gone()
        with pytest.raises(CallerGone):
            await gone
        assert not long.done(), "the long one is meant to be longer than this"
        return calls(await long), calls(await stays)

    long, stays = serve("count").use(behind_a_long_one)
    assert stays == long + 1, "only the long one and the one that stayed were computed"


def count(n: int, **fields: Any) -> PredictionRequest:
    return PredictionRequest({"n": np.array(n, np.int64)}, **fields)


def calls(result: PredictionResult) -> int:
    return int(result.outputs["calls"])


def test_a_delay_is_waited_for_company_only_when_asked(serve: Callable[..., Served]) -> None:
    async def two_apart(model: Model) -> set[int]:
        first = asyncio.ensure_future(model.predict(request(1, 1)))
        await asyncio.sleep(0)
        await asyncio.gather(first, *(model.predict(request(n, n)) for n in range(3)))
        return set(model.statistics.batches)

    assert serve("versions", max_delay_s=0.2).use(two_apart) == {4}


@pytest.mark.slow
def test_a_computation_that_never_ends_ends_its_worker(serve: Callable[..., Served]) -> None:
    served = serve("count", time_limit_s=1.0)

    async def endless(model: Model) -> Any:
        return await asyncio.gather(model.predict(count(2**62)), return_exceptions=True)

    (error,) = served.use(endless)
    assert isinstance(error, TFserveError)
    assert served.worker.process.wait(20) == os.EX_SOFTWARE
