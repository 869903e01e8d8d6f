"""A workspace whose record can't be deleted continues as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection
from supervised import Start, Supervised, outcome, written

from tfserve.errors import OutOfSpace
from tfserve.ipc.messages import DestroyWorkspace, GetServer, ListWorkspaces, SetService

REFUSES = (
    "CREATE TRIGGER keeps_all BEFORE DELETE ON control_workspace"
    " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
)


async def statement(server: Supervised, sql: str) -> None:
    def execute() -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    await server.journal.change(execute)


async def test_a_refused_destroy_leaves_the_model_the_variables_and_what_waits(start: Start, tmp_path: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(written(tmp_path / "m.echo"))
        await server.run("x = 7")
        running = await server.start("import time; time.sleep(60)")
        waiting = await server.run("print(1)", wait_s=0.0)
        await statement(server, REFUSES)
        with pytest.raises(OutOfSpace):
            await server.line.ask(DestroyWorkspace(name="w"))
        assert (await server.web.predict("w", 1, 2)).version == 1
        assert (await server.run("print(2)")).state == "succeeded", "the queue continues"
        assert running.id not in server.workspaces.jobs
        assert waiting.id not in server.workspaces.jobs, "it has run"
        await statement(server, "DROP TRIGGER keeps_all")
        assert await server.line.ask(DestroyWorkspace(name="w"))
        await server.create()
        assert outcome(await server.run("y = 1")).variables == b'{"y":1}'


async def test_the_service_stays_on_if_a_workspace_can_not_be_destroyed(start: Start) -> None:
    async with start() as server:
        await server.create()
        await statement(server, REFUSES)
        with pytest.raises(OutOfSpace):
            await server.line.ask(SetService(on=False))
        assert (await server.line.ask(GetServer()))["on"]
        assert await server.line.ask(ListWorkspaces()) == ["w"]
        await statement(server, "DROP TRIGGER keeps_all")
        assert await server.line.ask(SetService(on=False))
