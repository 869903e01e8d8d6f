"""Keeps a stateful model from computing the same request twice: a second time would change its state again.

Before such a model computes, a mark is on the disk. An attempt that finds the mark of an earlier one computes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tfserve.durable_files import sync_folder, write_durably
from tfserve.errors import Conflict, Unavailable
from tfserve.model_job_files import COMPUTING
from tfserve.web.predictions.live_models import Model, PredictionLost


class PossiblyComputed(Conflict):
    """The model is stateful and may have computed this already: {reason}. It was not computed again, because that \
might change the state of the model twice. {advice}"""


ADVICE = "Send the request again if it should be computed."
INTERRUPTED = "the server or its batch process ended before the response was recorded"


@asynccontextmanager
async def computed_once(folder: Path, model: Model) -> AsyncIterator[None]:
    """Marks the job in `folder` while a stateful model computes it. Other models may compute any number of times.

    The mark goes if the request never reached the model. Raises `PossiblyComputed` if the model's process ended.
    """
    if not model.info.is_stateful:
        yield
        return
    await asyncio.to_thread(mark, folder)
    try:
        yield
    except PredictionLost as error:
        raise PossiblyComputed(reason=error.detail["reason"], advice=ADVICE) from error
    except Unavailable:
        await asyncio.to_thread(_unmark, folder)
        raise


def mark(folder: Path) -> None:
    """From now on, no further attempt at the job computes anything. Raises `OSError`."""
    write_durably(folder / COMPUTING, b"")


def require_unmarked(folder: Path, *, reason: str = INTERRUPTED, advice: str = ADVICE) -> None:
    """Raises `PossiblyComputed` if an earlier attempt at the job has left a mark."""
    if (folder / COMPUTING).exists():
        raise PossiblyComputed(reason=reason, advice=advice)


def _unmark(folder: Path) -> None:
    (folder / COMPUTING).unlink()
    sync_folder(folder)
