"""Runs one batch: reads rows, computes them, writes their lines in order, and records how far it is.

A batch that was interrupted continues from its last checkpoint. What the output has beyond it is cut off, so every row
has exactly one line.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from itertools import islice
from pathlib import Path

import msgspec

from tfserve.batch_formats import CSV, IMAGES, header_of
from tfserve.durable_files import write_durably
from tfserve.errors import Invalid, Unavailable
from tfserve.ipc.messages import BatchJob, BatchProgress, JobState, Message, Outcome
from tfserve.model_job_files import CHECKPOINT, Checkpoint, output_name, read_checkpoint
from tfserve.training.atomic_files import is_disk_full
from tfserve.web.batch.at_most_once import mark, require_unmarked
from tfserve.web.batch.csv_columns import Columns
from tfserve.web.batch.inputs import CsvLines, Images, InputChanged, InputRow, JsonLines, RowSource, require_input
from tfserve.web.batch.output_file import OutputFile
from tfserve.web.batch.outputs import ComputedRow, CsvWriter, JsonLinesWriter, Writer, columns_of, columns_of_images
from tfserve.web.batch.row_predictions import ModelGone, RowPredictions
from tfserve.web.predictions.live_models import Model

log = logging.getLogger(__name__)

WINDOW_ROWS, WINDOW_IMAGES = 64, 16
"""Maximum rows that are computed at a time, unless one group has more."""
CHECKPOINT_S = 0.5
CHECKPOINT_BYTES = 4 * 1024 * 1024
FULL_DISK_S = 10.0
"""Time between attempts while the disk is full."""
SMOOTHING = 0.3
"""Weight of the newest measurement of the speed."""


class TooManyErrors(Invalid):
    """Failed rows: {count}, more than max_errors ({limit}). The last error: {last}"""


class BatchRun:
    """One attempt at a batch."""

    def __init__(
        self, predictions: RowPredictions, job: BatchJob, folder: Path, job_id: int, notify: Callable[[Message], None]
    ) -> None:
        self._predictions = predictions
        self._job = job
        self._folder = folder
        self._job_id = job_id
        self._notify = notify
        self._saved = Checkpoint()
        self._speed = 0.0
        #: whether each row is computed alone, after the one before: the model is stateful
        self._in_order = False
        self._saved_at = time.monotonic()

    async def run(self) -> Outcome:
        """Returns when all rows are done. Raises `TFserveError` if the batch can't continue."""
        while True:
            try:
                return await self._run()
            except OSError as error:
                if not is_disk_full(error):
                    raise Unavailable(
                        f"A file of the batch can't be used: {error.strerror}: {error.filename}"
                    ) from error
                log.warning("batch %s continues when the disk has space: %s", self._job_id, error)
            await asyncio.sleep(FULL_DISK_S)

    async def _run(self) -> Outcome:
        model = await self._predictions.model()
        await self._require_safe_to_continue()
        self._in_order = model.info.is_stateful
        source, writer = await asyncio.to_thread(self._open, model)
        self._saved = await asyncio.to_thread(self._begin, source)
        output = OutputFile(self._folder / output_name(self._job.output), self._saved.output_bytes, writer.header())
        try:
            await asyncio.to_thread(output.open)
            if self._in_order:
                await asyncio.to_thread(mark, self._folder)
            self._report()
            await self._compute_all(source, output, writer)
        finally:
            await asyncio.to_thread(output.close)
        saved = self._saved
        result = {"rows": saved.rows, "errors": saved.errors, "output_bytes": saved.output_bytes}
        return Outcome(state=JobState.SUCCEEDED, result=msgspec.json.encode(result))

    async def _compute_all(self, source: RowSource, output: OutputFile, writer: Writer) -> None:
        counting = asyncio.ensure_future(asyncio.to_thread(source.count))
        try:
            async with aclosing(self._computed(source.rows(self._saved.rows))) as groups:
                async for group in groups:
                    await self._write(group, output, writer, counting)
        except ModelGone:  # what was computed before counts
            await self._checkpoint(output, self._saved.total)
            raise
        else:
            await self._checkpoint(output, await counting)
        finally:
            counting.cancel()

    async def _require_safe_to_continue(self) -> None:
        """Raises `PossiblyComputed` if a stateful model may have computed rows that do not count."""
        rows = (await asyncio.to_thread(read_checkpoint, self._folder)).rows
        reason = f"rows after the first {rows} may have been computed when the batch was interrupted"
        advice = f"POST /batch/{self._job_id}/resume computes them again."
        await asyncio.to_thread(require_unmarked, self._folder, reason=reason, advice=advice)

    # --- in threads

    def _open(self, model: Model) -> tuple[RowSource, Writer]:
        """Raises `Invalid` if the input does not fit the model."""
        job, path = self._job, Path(self._job.input)
        require_input(path)
        signature = model.signature(job.signature or model.default_signature)
        source: RowSource
        if job.format == CSV:
            source = CsvLines(path, Columns(header_of(path), signature, job.columns))
        else:
            source = Images(path) if job.format == IMAGES else JsonLines(path)
        if job.output != CSV:
            return source, JsonLinesWriter()
        of_images = model.signatures.get("image_bytes") if job.format == IMAGES and job.signature is None else None
        columns = columns_of(signature) if of_images is None else columns_of_images(of_images)
        return source, CsvWriter(columns, has_files=job.format == IMAGES)

    def _begin(self, source: RowSource) -> Checkpoint:
        """Where to continue. Raises `InputChanged`."""
        saved = read_checkpoint(self._folder)
        output = self._folder / output_name(self._job.output)
        if saved.output_bytes > (output.stat().st_size if output.exists() else 0):  # restored from a backup
            saved = Checkpoint(input=saved.input)
        fingerprint = source.fingerprint()
        if saved.input not in ("", fingerprint):
            raise InputChanged
        return msgspec.structs.replace(saved, input=fingerprint)

    # --- rows

    async def _computed(self, rows: Iterator[InputRow]) -> AsyncGenerator[list[ComputedRow], None]:
        """The groups of rows in order. Later groups are computed while the first is awaited."""
        window: deque[asyncio.Task[list[ComputedRow]]] = deque()
        size = 1 if self._in_order else self._job.batch_size
        ahead = max(2, (WINDOW_IMAGES if self._job.format == IMAGES else WINDOW_ROWS) // size)
        most = 0 if self._in_order else ahead
        loop = asyncio.get_running_loop()
        try:
            while group := await asyncio.to_thread(lambda: list(islice(rows, size * (ahead // 2)))):
                for start in range(0, len(group), size):
                    window.append(loop.create_task(self._predictions.compute(group[start : start + size])))
                    while len(window) > most:
                        yield await window.popleft()
            while window:
                yield await window.popleft()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)

    async def _write(
        self, group: list[ComputedRow], output: OutputFile, writer: Writer, counting: asyncio.Future[int]
    ) -> None:
        """Raises `TooManyErrors` once the lines before are on the disk."""
        for done in group:
            output.add(writer.line(done), is_error=bool(done.error))
        limit = self._job.max_errors
        too_many = limit is not None and self._saved.errors + output.errors > limit
        is_due = time.monotonic() - self._saved_at >= CHECKPOINT_S or output.unsaved_bytes >= CHECKPOINT_BYTES
        if is_due or too_many:
            await self._checkpoint(output, counting.result() if counting.done() else self._saved.total)
        if too_many:
            last = next(done.error for done in reversed(group) if done.error)
            raise TooManyErrors(count=self._saved.errors, limit=limit, last=last)

    async def _checkpoint(self, output: OutputFile, total: int | None) -> None:
        """Makes what was written count."""
        rows, errors, size = output.rows, output.errors, await asyncio.to_thread(output.save)
        now = time.monotonic()
        speed, self._saved_at = rows / max(now - self._saved_at, 1e-6), now
        self._speed = speed if not self._speed else (1 - SMOOTHING) * self._speed + SMOOTHING * speed
        self._saved = msgspec.structs.replace(
            self._saved,
            rows=self._saved.rows + rows,
            errors=self._saved.errors + errors,
            output_bytes=size,
            total=total,
        )
        content = msgspec.json.encode(self._saved)
        await asyncio.to_thread(write_durably, self._folder / CHECKPOINT, content)
        self._report()

    def _report(self) -> None:
        saved = self._saved
        self._notify(
            BatchProgress(
                job_id=self._job_id, done=saved.rows, errors=saved.errors, output_bytes=saved.output_bytes,
                total=saved.total, rows_per_s=round(self._speed, 2),
            )
        )  # fmt: skip
