"""A run keeps its place in the books of the queue when its worker dies."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from queues import read, until
from task_trainer import WAITS, Trainer, begun, let_go, open_trainer

from tfserve.access.principals import PRINCIPAL, Principal, Scope
from tfserve.db import reads
from tfserve.errors import NotFound
from tfserve.supervisor.jobs.training_run import FolderInUse, TooManyTasks

DIES_ONCE = "t.note('begun'); t.until('go' * t.attempt)\nif t.attempt == 1: t.die()"


async def continued(trainer: Trainer, project: Path) -> str:
    """A task with a free place next to it whose worker has died, and that trains again."""
    task_id = await trainer.start(project, DIES_ONCE)
    await begun(project)
    let_go(project)
    await begun(project)
    return task_id


async def test_a_run_that_continues_after_a_death_can_be_cancelled(database: Path, tmp_path: Path) -> None:
    project = tmp_path / "p"
    async with open_trainer(database, train_workers=2) as trainer:
        task_id = await continued(trainer, project)
        assert [run.task_id for run in trainer.trainings.running] == [task_id]
        trainer.trainings.finish(task_id)  # it trains
        with pytest.raises(FolderInUse):
            await trainer.start(project)
        await trainer.trainings.cancel(task_id)
        assert await trainer.states(task_id) == ["cancelled"]


async def test_no_more_runs_than_workers_train_after_a_death(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database, train_workers=2) as trainer:
        await continued(trainer, tmp_path / "a")
        await trainer.start(tmp_path / "b", WAITS)
        await begun(tmp_path / "b")
        third = await trainer.start(tmp_path / "c", WAITS)
        assert (len(trainer.trainings.running), trainer.trainings.waiting_count) == (2, 1)
        assert await trainer.states(third) == ["queued"]


async def test_a_run_that_continues_after_a_death_ends_with_the_server(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database, train_workers=2) as trainer:
        task_id = await continued(trainer, tmp_path / "p")
        await trainer.trainings.close()
        assert await trainer.states(task_id) == ["queued"]


async def test_a_run_that_is_cancelled_while_its_death_is_recorded_is_cancelled(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database, train_workers=2) as trainer:
        task_id = await trainer.start(tmp_path / "p", DIES_ONCE)
        await begun(tmp_path / "p")
        (run,) = trainer.trainings.running
        let_go(tmp_path / "p")
        await until(lambda: run.worker is None)
        async with asyncio.timeout(20):
            await trainer.trainings.cancel(task_id)
        assert await trainer.states(task_id) == ["cancelled"]


async def test_a_task_is_not_resumed_when_the_server_has_as_many_as_it_takes(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database, max_tasks=1) as trainer:
        failed = await trainer.start(tmp_path / "a", "t.fail('no')")
        await trainer.ended(failed)
        await trainer.start(tmp_path / "b", WAITS)
        with pytest.raises(TooManyTasks, match=r"1 training tasks are waiting or running, .* \(max_tasks\)"):
            await trainer.trainings.resume(failed)
        assert await trainer.states(failed) == ["failed"]


async def test_the_former_run_of_a_resumed_task_is_shown_to_admins_only(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p", "t.fail('no')", owner="token:1")
        await trainer.ended(task_id)
        former = (await trainer.row(task_id)).job_id
        await trainer.trainings.resume(task_id)
        await trainer.ended(task_id)
        current = (await trainer.row(task_id)).job_id

    def seen_by(principal: Principal, job_id: int) -> bool:
        PRINCIPAL.set(principal)
        try:
            return reads.job_by_id(job_id).pk == job_id
        except NotFound:
            return False

    owner = Principal("a", "token:1", frozenset({Scope.TRAIN}))
    other = Principal("b", "token:2", frozenset({Scope.TRAIN}))
    admin = Principal("c", "token:3", frozenset(Scope))
    seen = {
        (who.name, job): await read(partial(seen_by, who, job))
        for who in (owner, other, admin)
        for job in (former, current)
    }
    assert seen == {
        ("a", former): False, ("a", current): True, ("b", former): False, ("b", current): False,
        ("c", former): True, ("c", current): True,
    }  # fmt: skip
