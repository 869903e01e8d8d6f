"""The batch process: `python -m tfserve.web.batch.process --line <fd>`, started by the supervisor.

It reaches models as web does, but has the lowest priority of all processes, so that interactive predictions come first.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import Any

import uvloop

from tfserve import linux
from tfserve.cluster.membership import Membership
from tfserve.errors import Failure, Internal, TFserveError
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import (
    BatchJob,
    DeferredJob,
    GetModels,
    JobState,
    Message,
    ModelJobEnded,
    Outcome,
    RunModelJob,
    StopModelJob,
    WakeModel,
)
from tfserve.web.batch.at_most_once import PossiblyComputed
from tfserve.web.batch.deferred import run_deferred
from tfserve.web.batch.row_predictions import RowPredictions
from tfserve.web.batch.run import BatchRun
from tfserve.web.predictions import model_messages
from tfserve.web.predictions.live_models import LiveModels
from tfserve.web.supervisor_client import SupervisorClient

NICENESS = 10
TIMEOUT_S = 3600.0
"""Of one prediction that names no Request-Timeout: no client waits for it, so it may wait for other requests."""
MAX_PREDICTIONS = 10_000
"""Of one model, from this process: what its jobs send at a time is limited elsewhere."""

log = logging.getLogger(__name__)


def main() -> None:
    """Runs until the supervisor closes the connection or ends the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--line", type=int, required=True)
    arguments = parser.parse_args()
    linux.die_with_parent(os.getppid())
    linux.give_way(NICENESS)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s batch: %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(socket.socket(fileno=arguments.line)))


async def _serve(line_socket: socket.socket) -> None:
    process = BatchProcess(line_socket)
    await process.begin()
    await process.line.lost


class BatchProcess:
    """Runs the jobs that the supervisor sends, all at a time: the supervisor limits their number."""

    line: Connection

    def __init__(self, line_socket: socket.socket) -> None:
        self._socket = line_socket
        self._models = LiveModels(
            timeout_s=TIMEOUT_S,
            limit=MAX_PREDICTIONS,
            wake=lambda name, in_full: self._supervisor.ask(WakeModel(workspace=name, in_full=in_full)),
            membership=Membership.of_environment(),
        )
        self._jobs: dict[int, asyncio.Task[Outcome]] = {}

    @property
    def _supervisor(self) -> SupervisorClient:
        return SupervisorClient(self.line)

    async def begin(self) -> None:
        self.line = await Connection.open(self._socket, self._handle)
        await self._models.begin((await self._supervisor.ask(GetModels())).models)
        self._supervisor.notify_ready()

    async def _handle(self, message: Message) -> Any:
        return await model_messages.handle(self._models, message, self._handle_job, {})

    async def _handle_job(self, message: Message) -> ModelJobEnded | None:
        match message:
            case RunModelJob():
                return ModelJobEnded(outcome=await self._run(message))
            case StopModelJob():
                if (task := self._jobs.get(message.job_id)) is not None:
                    task.cancel()
            case _:
                raise Internal(f"the batch process does not handle {type(message).__name__}")
        return None

    async def _run(self, message: RunModelJob) -> Outcome:
        task = asyncio.get_running_loop().create_task(self._outcome(message))
        self._jobs[message.job_id] = task
        try:
            return await task
        except asyncio.CancelledError:
            failure = Failure(code="cancelled", message="The job was cancelled.")
            return Outcome.failed(failure, state=JobState.CANCELLED, result=b"null")
        finally:
            del self._jobs[message.job_id]

    async def _outcome(self, message: RunModelJob) -> Outcome:
        request, folder = message.request.decode(), Path(message.folder)
        try:
            if isinstance(request, DeferredJob):
                return await run_deferred(self._models, request, folder)
            assert isinstance(request, BatchJob)
            predictions = RowPredictions(self._models, request)
            return await BatchRun(predictions, request, folder, message.job_id, self.line.notify).run()
        except PossiblyComputed as error:
            return Outcome.failed(Failure("lost", error.message), state=JobState.LOST, result=b"null")
        except TFserveError as error:
            return Outcome.failed(error.to_failure(), result=b"null")
        except Exception:
            log.exception("job %s failed", message.job_id)
            return Outcome.failed(Internal().to_failure(), result=b"null")


if __name__ == "__main__":
    main()
