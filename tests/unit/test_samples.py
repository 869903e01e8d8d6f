"""Which of the answered requests are kept as samples."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tfserve.ipc.predictions import ComputeRequest, to_tensor
from tfserve.worker.model.samples import KEEP, RequestSamples


def ask(number: int, size: int = 1) -> ComputeRequest:
    return ComputeRequest("s", ("x",), (to_tensor(np.full((1, size), number, np.int64)),), ("y",))


def number(sample: ComputeRequest) -> int:
    return int.from_bytes(bytes(sample.tensors[0].data[:1].cast("B")[:8]), "little")


def feed(samples: RequestSamples, batches: list[list[int]]) -> None:
    for batch in batches:
        chosen = samples.wants(len(batch))
        if chosen is not None:
            samples.keep(ask(batch[chosen]))


def test_a_request_that_comes_again_and_again_is_kept_once() -> None:
    seen: list[int] = []
    samples = RequestSamples(seen.append)
    feed(samples, [[7]] * 1000)
    assert [number(sample) for sample in samples.all()] == [7]
    assert seen[0] == 1
    feed(samples, [[n] for n in range(KEEP)])
    assert len(samples.all()) == KEEP, "others that come later are still noticed"
    assert KEEP in seen


def test_each_new_sample_is_said_until_there_are_enough_and_then_only_now_and_then() -> None:
    seen: list[int] = []
    feed(RequestSamples(seen.append), [[n] for n in range(5000)])
    assert seen[:KEEP] == list(range(1, KEEP + 1))
    assert KEEP <= len(seen) <= KEEP + 4


def test_every_request_has_the_same_chance_also_in_batches() -> None:
    found: Counter[int] = Counter()
    for _ in range(400):
        samples = RequestSamples()
        feed(samples, [[n, n + 1, n + 2, n + 3] for n in range(0, 200, 4)])
        found.update(number(sample) // 50 for sample in samples.all())
    assert all(0.7 < found[quarter] / (400 * KEEP / 4) < 1.3 for quarter in range(4)), found


def test_large_requests_do_not_fill_the_memory() -> None:
    samples = RequestSamples()
    for n in range(KEEP):
        samples.keep(ask(n, 3_000_000))
    assert len(samples.all()) == 2
