"""Checks project folders in workers without TensorFlow, a few at a time: each reads and decodes all images."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tfserve.errors import Internal, Invalid
from tfserve.ipc.messages import CheckProject, ExamineProject, Message, ProjectExamined, StartTraining
from tfserve.supervisor.processes.launchers import ANYWHERE, Spare
from tfserve.supervisor.processes.worker import WorkerDied

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
        found = await self.check(request, findings)
        if found.problems:
            raise Invalid("; ".join(found.problems[:MAX_SHOWN]), problems=found.problems, skipped=found.skipped)
        return found

    async def check(self, request: StartTraining | CheckProject, findings: Path) -> ProjectExamined:
        """Writes the file `findings` if there are no problems. Raises `Internal`."""
        question = ExamineProject(
            project_dir=request.project_dir, train_type=request.train_type, parameters=request.parameters,
            findings=str(findings), roots=self._roots,
        )  # fmt: skip
        async with self._limit:
            return await self._examine(question)

    async def _examine(self, question: ExamineProject) -> ProjectExamined:
        async def ask() -> ProjectExamined:
            worker = await self._spare.start_cold()
            try:
                return await worker.ask(question)
            finally:
                worker.kill("the examination is over")

        try:
            return await self._spare.on_another(ANYWHERE, ask)
        except WorkerDied as death:
            raise Internal(f"The project could not be examined: the worker died, {death}. Try again.") from None


class ProjectChecks:
    """Checks of projects for which no training is started."""

    def __init__(self, folder: Path, spare: Spare, roots: list[Path]) -> None:
        self._folder = folder
        self._examinations = Examinations(spare, roots)
        shutil.rmtree(folder, ignore_errors=True)  # of a server that was killed

    @property
    def handlers(self) -> dict[type[Message], Callable[[Any], Awaitable[Any]]]:
        return {CheckProject: self._check}

    async def _check(self, request: CheckProject) -> ProjectExamined:
        """What an examination finds, including the problems that prevent a training. Keeps no files."""
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(mode=0o700, parents=True)
        try:
            return await self._examinations.check(request, folder / "findings.json")
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
