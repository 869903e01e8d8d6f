"""Project folders are examined by workers without TensorFlow, a few at a time: each reads and decodes all images."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tfserve.errors import Internal, Invalid
from tfserve.ipc.messages import ExamineProject, ProjectExamined, StartTraining
from tfserve.supervisor.processes.worker import Spare, WorkerDied

AT_A_TIME = 4
MAX_TOLD = 20
"""So many problems are spelled out in the sentence; the list beside it has all."""


class Examinations:
    """Further ones wait for their turn."""

    def __init__(self, spare: Spare, roots: list[Path]) -> None:
        self._spare = spare
        self._roots = [str(root) for root in roots]
        self._turns = asyncio.Semaphore(AT_A_TIME)

    async def examine(self, request: StartTraining, findings: Path) -> ProjectExamined:
        """Leaves the file `findings`, unless it is refused. Raises `Invalid` with every problem, `Internal`."""
        question = ExamineProject(
            project_dir=request.project_dir, train_type=request.train_type, parameters=request.parameters,
            findings=str(findings), roots=self._roots,
        )  # fmt: skip
        async with self._turns:
            answer = await self._ask(question)
        if answer.problems:
            raise Invalid("; ".join(answer.problems[:MAX_TOLD]), problems=answer.problems, skipped=answer.skipped)
        return answer

    async def _ask(self, question: ExamineProject) -> ProjectExamined:
        try:
            worker = await self._spare.start_cold()
            try:
                answer = await worker.ask(question)
            finally:
                worker.kill("the examination is over")
        except WorkerDied as death:
            raise Internal(f"The project could not be examined: the worker died, {death}. Try again.") from None
        if not isinstance(answer, ProjectExamined):
            raise Internal(f"a worker answered {type(answer).__name__} to an examination")
        return answer
