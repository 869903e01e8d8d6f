"""Checks project folders in workers without TensorFlow, a few at a time: each reads and decodes all images."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tfserve.errors import Internal, Invalid
from tfserve.ipc.messages import ExamineProject, ProjectExamined, StartTraining
from tfserve.supervisor.processes.worker import Spare, WorkerDied

AT_A_TIME = 4
MAX_SHOWN = 20
"""Maximum problems in the error message; its details have all of them."""


class Examinations:
    """Limits how many run at a time; the others wait."""

    def __init__(self, spare: Spare, roots: list[Path]) -> None:
        self._spare = spare
        self._roots = [str(root) for root in roots]
        self._limit = asyncio.Semaphore(AT_A_TIME)

    async def examine(self, request: StartTraining, findings: Path) -> ProjectExamined:
        """Writes the file `findings`. Raises `Invalid` with every problem, and `Internal`."""
        question = ExamineProject(
            project_dir=request.project_dir, train_type=request.train_type, parameters=request.parameters,
            findings=str(findings), roots=self._roots,
        )  # fmt: skip
        async with self._limit:
            found = await self._examine(question)
        if found.problems:
            raise Invalid("; ".join(found.problems[:MAX_SHOWN]), problems=found.problems, skipped=found.skipped)
        return found

    async def _examine(self, question: ExamineProject) -> ProjectExamined:
        try:
            worker = await self._spare.start_cold()
            try:
                return await worker.ask(question)
            finally:
                worker.kill("the examination is over")
        except WorkerDied as death:
            raise Internal(f"The project could not be examined: the worker died, {death}. Try again.") from None
