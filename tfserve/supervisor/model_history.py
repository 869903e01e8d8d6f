"""The counters of the models over the last minutes, for pages. Sampled only while pages are open."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from tfserve.ipc.messages import GetModelHistory, Message, ModelHistory
from tfserve.ipc.metrics import ModelSample, NamedCounts

SAMPLE_S = 5.0
"""Time between two samples."""
KEPT_S = 300.0
"""How far the samples go back."""
KEPT = int(KEPT_S / SAMPLE_S) + 1
IDLE_S = 600.0
"""Sampling ends this long after the last request."""


class SampledModels:
    """`read` returns the counters that `/metrics` shows as well."""

    def __init__(self, read: Callable[[], Awaitable[list[NamedCounts]]]) -> None:
        self._read = read
        self._samples: dict[str, deque[ModelSample]] = {}
        self._asked_at = 0.0
        self._sampling: asyncio.Task[None] | None = None

    @property
    def handlers(self) -> dict[type[Message], Callable[[Any], Awaitable[Any]]]:
        return {GetModelHistory: self._history}

    async def _history(self, request: GetModelHistory) -> ModelHistory:
        """The first request begins the sampling."""
        self._asked_at = time.monotonic()
        if self._sampling is None:
            await self._sample()
            self._sampling = asyncio.create_task(self._sample_while_asked())
        return ModelHistory(models={name: list(self._samples.get(name, ())) for name in request.names})

    def close(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()

    async def _sample_while_asked(self) -> None:
        try:
            while time.monotonic() - self._asked_at < IDLE_S:
                await asyncio.sleep(SAMPLE_S)
                await self._sample()
        finally:
            self._sampling = None
            self._samples = {}

    async def _sample(self) -> None:
        now, found = time.time(), dict[str, ModelSample]()
        for each in await self._read():
            found.setdefault(each.model, ModelSample(now)).add(each.counts)
        for name in self._samples.keys() - found.keys():
            del self._samples[name]
        for name, sample in found.items():
            self._samples.setdefault(name, deque(maxlen=KEPT)).append(sample)
