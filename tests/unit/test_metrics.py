"""What several processes have counted becomes one number for each thing."""

from __future__ import annotations

from msgspec.structs import replace

from tfserve.ipc.messages import Metrics
from tfserve.ipc.metrics import ModelCounts, NamedCounts, TrainingCounts, WebCounts, added
from tfserve.ipc.predictions import ComputeResult
from tfserve.web.api.metrics.families import families

QUEUED_NS = 1_000_000


def counted(*batches: tuple[int, int]) -> ModelCounts:
    """What a process counts of answers with so many rows, each from a batch of so many."""
    statistics = ModelCounts()
    for rows, batch_rows in batches:
        statistics.succeeded("v1", rows, 2_000_000, ComputeResult((), QUEUED_NS, batch_rows=batch_rows))
    return replace(statistics, in_flight=1)


def test_counts_of_two_processes_are_added_place_by_place() -> None:
    one = WebCounts({1: counted((1, 1))}, {"v1": {"400": 1}})
    other = WebCounts({1: counted((1, 1), (2, 4)), 2: counted((1, 1))}, {"v1": {"404": 1, "400": 2}, "v2": {"503": 1}})
    total = added(one, other)
    assert total.models[1].requests == {"v1": {"ok": 3}}
    assert total.models[1].in_flight == 2
    assert sum(total.models[1].latency["v1"].counts) == 3
    assert {size: batch.rows for size, batch in total.models[1].batches.items()} == {1: 2, 4: 2}
    assert (total.models[1].success.count, total.models[1].success.ns) == (3, 6_000_000)
    assert total.models[1].last == other.models[1].last, "the later of two moments, not their sum"
    assert total.models[2] == other.models[2]
    assert total.http_errors == {"v1": {"400": 3, "404": 1}, "v2": {"503": 1}}
    assert one.models[1].requests == {"v1": {"ok": 1}}, "what is added stays as it was"


def test_a_batch_is_counted_once_however_many_requests_it_held_and_whoever_left() -> None:
    shared, lonely, with_a_gap = [(1, 3)] * 3, [(5, 5)], [(1, 4)] * 3
    counts = counted(*shared, *lonely, *with_a_gap)
    metrics = Metrics("", 0.0, [NamedCounts("m", 1, counts)], {}, [], TrainingCounts(0, 0, {}), [], [])
    (batches,) = [family for family in families(metrics) if family.name == "tfserve_model_batch_rows"]
    values = {(sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value for sample in batches.samples}
    assert values["bucket", "4.0"] == 2
    assert values["bucket", "8.0"] == 3
    assert values["count", None] == 3
    assert values["sum", None] == 3 + 5 + 3


def test_who_went_away_is_counted_and_is_no_failure() -> None:
    statistics = ModelCounts()
    statistics.dropped("v2", 1_000_000)
    assert statistics.requests == {"v2": {"client_gone": 1}}
    assert statistics.fail.count == 0
