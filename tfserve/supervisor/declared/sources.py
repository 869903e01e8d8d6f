"""Where declarations come from: the models file, and TensorFlow Serving's clients.

The last valid declarations of each source are recorded, and stay in force while the source has mistakes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec

from tfserve.config import Settings
from tfserve.db import writes
from tfserve.errors import Conflict, Invalid, TFserveError
from tfserve.ipc.messages import Declarations, DeclaredModel, DeclaredWorkspace, Problem
from tfserve.supervisor.declared import models_file
from tfserve.supervisor.declared.checks import check_model, check_name
from tfserve.supervisor.declared.models_file import ProblemsInFile
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models import model_files

log = logging.getLogger(__name__)

FILE, CLIENTS = "file", "clients"


class DeclaredInFile(Conflict):
    """Model {name!r} is declared in {path}, which decides how it is served. Change it there."""


class Sources:
    """What is declared at present, by all sources."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self.path = Path(settings.models) if settings.models else None
        #: the mistakes in the file
        self.problems: list[Problem] = []
        self._roots = settings.root_paths
        self._journal = journal
        self._in_force: dict[str, Declarations] = {FILE: Declarations(), CLIENTS: Declarations()}
        self._changing = asyncio.Lock()

    @property
    def models(self) -> dict[str, DeclaredModel]:
        """All declared models. The file takes precedence."""
        return self._in_force[CLIENTS].models | self._in_force[FILE].models

    @property
    def workspaces(self) -> dict[str, DeclaredWorkspace]:
        return self._in_force[FILE].workspaces

    def where(self, name: str) -> str:
        """Where a model is declared, for an error message."""
        if name in self._in_force[FILE].models:
            return f"in the models file ({self.path.name if self.path else ''})"
        return "by HandleReloadConfigRequest"

    async def load(self) -> None:
        """Restores what was in force when the server stopped, and reads the file. Without a file, it declares none."""
        kept = await self._journal.change(writes.kept_declarations)
        for source in (CLIENTS, *([FILE] if self.path is not None else [])):
            if source in kept:
                self._in_force[source] = msgspec.json.decode(kept[source], type=Declarations)
        await self.read_file()

    async def read_file(self) -> None:
        """Takes over the file if it is valid; otherwise keeps what is in force, and the problems."""
        if self.path is None:
            return
        problems: list[Problem] = []
        read = partial(models_file.read, self.path, self._roots)
        async with self._changing:
            try:
                await self._keep(FILE, await model_files.in_own_thread(read, str(self.path)))
            except ProblemsInFile as error:
                problems = error.problems
            except TFserveError as error:
                problems = [Problem(error.message)]
        if problems != self.problems:
            for problem in problems:
                log.error("%s: %s. The last valid declarations stay in force", self.path, problem)
            self.problems = problems

    async def declare(self, models: Mapping[str, DeclaredModel]) -> None:
        """Replaces what clients declared. Raises `DeclaredInFile`, `Invalid`."""
        for name in models:
            if name in self._in_force[FILE].models:
                raise DeclaredInFile(name=name, path=self.path.name if self.path else "")
        checked = dict(self._checked(name, each) for name, each in models.items())
        async with self._changing:
            await self._keep(CLIENTS, Declarations(models=checked))

    def _checked(self, name: str, model: DeclaredModel) -> tuple[str, DeclaredModel]:
        try:
            return check_name(name), check_model(model, start=Path.cwd(), roots=self._roots)
        except Invalid as error:
            raise Invalid(f"Model {name!r}: {error.message}") from None

    async def _keep(self, source: str, declared: Declarations) -> None:
        """Records what is in force from now on."""
        if declared != self._in_force[source]:
            content = msgspec.json.encode(declared).decode()
            await self._journal.change(partial(writes.keep_declarations, source, content))
            self._in_force[source] = declared
