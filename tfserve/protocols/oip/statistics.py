"""The statistics extension: what was computed since the version began to serve, in Triton's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfserve.ipc.metrics import BatchCount, Duration, ModelCounts
from tfserve.serving.models import Model
from tfserve.serving.supervisor import SupervisorLine

_NEVER = {"count": 0, "ns": 0}


async def model_stats(models: Iterable[Model], line: SupervisorLine) -> dict[str, Any]:
    """What all web processes have counted together."""
    counts = {(each.model, each.version): each.counts for each in (await line.metrics()).models}
    return {"model_stats": [_one(model, counts.get((model.name, model.version), ModelCounts())) for model in models]}


def _one(model: Model, counted: ModelCounts) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": str(model.version),
        "last_inference": int(counted.last.at_s * 1000),
        "inference_count": counted.rows,
        "execution_count": round(counted.executions),
        "inference_stats": _durations(counted),
        "response_stats": {},
        "batch_stats": [_batch(size, batch) for size, batch in sorted(counted.batches.items())],
        "memory_usage": [],
    }


def _durations(counted: ModelCounts) -> dict[str, Any]:
    """Nothing is cached here, but clients look for the words."""
    count, batches = counted.success.count, counted.batches.values()
    return {
        "success": _duration(counted.success),
        "fail": _duration(counted.fail),
        "queue": {"count": count, "ns": counted.queue_ns},
        "compute_input": {"count": count, "ns": sum(each.input_ns for each in batches)},
        "compute_infer": {"count": count, "ns": sum(each.compute_ns for each in batches)},
        "compute_output": {"count": count, "ns": sum(each.output_ns for each in batches)},
        "cache_hit": _NEVER,
        "cache_miss": _NEVER,
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}


def _batch(size: int, batch: BatchCount) -> dict[str, Any]:
    return {
        "batch_size": size,
        "compute_input": {"count": batch.requests, "ns": batch.input_ns},
        "compute_infer": {"count": batch.requests, "ns": batch.compute_ns},
        "compute_output": {"count": batch.requests, "ns": batch.output_ns},
    }
