"""The statistics extension: what was computed since the version began to serve, in Triton's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfserve.serving.models import Model
from tfserve.serving.statistics import BatchCount, Duration, Statistics

_NEVER = {"count": 0, "ns": 0}


def model_stats(models: Iterable[Model]) -> dict[str, Any]:
    return {"model_stats": [_one(model) for model in models]}


def _one(model: Model) -> dict[str, Any]:
    counted = model.statistics
    return {
        "name": model.name,
        "version": str(model.version),
        "last_inference": int(counted.last_at_s * 1000),
        "inference_count": counted.rows,
        "execution_count": round(counted.executions),
        "inference_stats": _durations(counted),
        "response_stats": {},
        "batch_stats": [_batch(size, batch) for size, batch in sorted(counted.batches.items())],
        "memory_usage": [],
    }


def _durations(counted: Statistics) -> dict[str, Any]:
    """Nothing is cached here, but clients look for the words."""
    batches = counted.batches.values()
    return {
        "success": _duration(counted.success),
        "fail": _duration(counted.fail),
        "queue": {"count": counted.success.count, "ns": counted.queue_ns},
        "compute_input": {"count": counted.success.count, "ns": sum(each.input_ns for each in batches)},
        "compute_infer": {"count": counted.success.count, "ns": sum(each.compute_ns for each in batches)},
        "compute_output": {"count": counted.success.count, "ns": sum(each.output_ns for each in batches)},
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
