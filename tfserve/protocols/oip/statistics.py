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
        "last_inference": counted.last_at_ms,
        "inference_count": counted.rows,
        "execution_count": round(counted.executions),
        "inference_stats": _durations(counted),
        "response_stats": {},
        "batch_stats": [_batch(size, batch) for size, batch in sorted(counted.batches.items())],
        "memory_usage": [],
    }


def _durations(counted: Statistics) -> dict[str, Any]:
    """Nothing is cached here, but clients look for the words."""
    return {
        "success": _duration(counted.success),
        "fail": _duration(counted.fail),
        "queue": _duration(counted.queue),
        "compute_input": _duration(counted.input),
        "compute_infer": _duration(counted.compute),
        "compute_output": _duration(counted.output),
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
