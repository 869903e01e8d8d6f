"""Checks a model's files before a process is started for it, so that a wrong path is refused within milliseconds.

Each check has its own thread, because a file system that hangs must block neither the supervisor nor its end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tfserve.errors import Invalid, TFserveError
from tfserve.ipc.messages import ModelOptions
from tfserve.models import formats, links
from tfserve.models.formats import Located
from tfserve.supervisor.declared.version_folders import fingerprint

LIMIT_S = 10.0

T = TypeVar("T")


async def locate(path: str, weights: str | None, options: ModelOptions) -> Located:
    """Locates the model. Raises `Invalid` with the cause, also for a link that leads out of the readable folders."""

    def check() -> Located:
        located = formats.locate(path, weights, inputs=options.inputs, outputs=options.outputs)
        links.check(located)
        return located

    return await in_own_thread(check, path)


async def changed_at(path: str) -> float:
    """When a model's files were last changed, as Unix time. Raises `Invalid` if they can't be read."""
    return await in_own_thread(lambda: fingerprint(Path(path)).newest, path)


async def in_own_thread(check: Callable[[], T], path: str) -> T:
    """What `check` returns about the files at `path`. Raises its error, or `Invalid` if they can't be read in time."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[T] = loop.create_future()

    def settle(done: Callable[[], None]) -> None:
        if not found.done():
            done()

    def run() -> None:
        try:
            result = check()
        except TFserveError as error:
            loop.call_soon_threadsafe(settle, lambda error=error: found.set_exception(error))
        except Exception as error:  # whatever a damaged file causes: nothing else would end the wait
            refused = Invalid(f"{path} can't be read: {error}")
            loop.call_soon_threadsafe(settle, lambda: found.set_exception(refused))
        else:
            loop.call_soon_threadsafe(settle, lambda: found.set_result(result))

    threading.Thread(target=run, name="model-files", daemon=True).start()
    try:
        async with asyncio.timeout(LIMIT_S):
            return await found
    except TimeoutError:
        raise Invalid(
            f"{path} could not be read within {LIMIT_S:g} s: its file system does not answer. Try again, or copy it to"
            " a local disk."
        ) from None
