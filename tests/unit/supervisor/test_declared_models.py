"""Models that the server deploys by itself: created once, declared again at once, and watched after replacements."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from supervised import DEADLINE_S, Start, Supervised, until, written

from tfserve.errors import Unavailable
from tfserve.ipc.messages import DeclaredModel, GetWorkspace
from tfserve.supervisor.declared import attempts, declared_models, reconciler

NAMES = ("a", "b", "c", "d")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "SETTLE_S", 0.05)
    monkeypatch.setattr(reconciler, "SETTLE_S", 0.05)
    monkeypatch.setattr(declared_models, "PAUSE_S", 0.05)


def version(model: Path, number: int) -> None:
    """Moves a complete version into the folder of a model, from outside of the folders that are watched."""
    made = model.parent.parent / "made"
    made.mkdir()
    written(made / "m.echo")
    made.rename(model / str(number))


async def until_served(server: Supervised, model: str, number: int) -> None:
    await until(lambda: server.announcements.served(model) == {number})


async def test_a_workspace_that_is_declared_for_itself_and_for_its_model_is_created_once(
    start: Start, tmp_path: Path
) -> None:
    written(tmp_path / "m.echo")
    file = tmp_path / "models.toml"
    file.write_text("".join(f'[workspaces.{name}]\n[models.{name}]\npath = "m.echo"\n' for name in NAMES))
    async with start(models=str(file), roots=str(tmp_path)) as server:
        await server.declared.start()
        server.declared.wake()  # a second task that creates workspaces
        await asyncio.gather(*(until_served(server, name, 1) for name in NAMES))
        assert (server.declared.state().models, server.declared.state().problems) == ({}, [])


async def test_a_problem_with_a_workspace_that_is_no_longer_declared_is_forgotten(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[workspaces.a]\ntype = "thread"\n')
    async with start(models=str(file), roots=str(tmp_path)) as server:
        await server.create("a", type_=0)
        await server.declared.start()
        await until(lambda: "another type" in str(server.declared.state().models))
        file.write_text("[models]\n")
        await until(lambda: not server.declared.state().models)


async def test_a_model_is_deployed_after_a_client_was_just_creating_its_workspace(start: Start, tmp_path: Path) -> None:
    model = tmp_path / "root" / "m"
    model.mkdir(parents=True)
    committing = threading.Event()
    async with start(roots=str(model.parent)) as server:
        with pytest.raises(Unavailable, match="no numbered versions"):
            await server.declared.reload({"m": DeclaredModel(path=str(model), versions="latest")})
        held = asyncio.ensure_future(server.journal.change(lambda: committing.wait(DEADLINE_S)))
        creating = asyncio.ensure_future(server.create("m"))
        await until(lambda: "m" in server.workspaces._taken)
        version(model, 1)
        await until(lambda: "already exists" in str(server.declared.state().models))
        committing.set()
        await asyncio.gather(held, creating)
        await until_served(server, "m", 1)


async def test_a_model_that_is_declared_again_while_it_is_withdrawn_gets_another_reconciler(
    start: Start, tmp_path: Path
) -> None:
    written(tmp_path / "m.echo")
    async with start(roots=str(tmp_path)) as server, asyncio.timeout(DEADLINE_S):
        with pytest.raises(Unavailable, match="does not exist"):
            await server.declared.reload({"m": DeclaredModel(path=str(tmp_path / "none"))})
        server.web.answers.clear()  # it does not know yet that the failed version is gone
        await server.declared.reload({})
        again = asyncio.ensure_future(server.declared.reload({"m": DeclaredModel(path=str(tmp_path / "m.echo"))}))
        await until(lambda: server.declared.is_declared("m"))
        server.web.answers.set()
        await again
        assert server.announcements.served("m") == {1}


def removed(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def replaced(folder: Path) -> None:
    (folder.parent / "new").mkdir()
    folder.rename(folder.parent / "old")
    (folder.parent / "new").rename(folder)


def linked(folder: Path) -> None:
    (folder.parent / "other").mkdir()
    (folder.parent / "link").symlink_to("other")
    (folder.parent / "link").rename(folder)


@pytest.mark.parametrize("change", [removed, replaced, linked])
async def test_a_folder_is_watched_after_it_was_replaced(
    start: Start, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = tmp_path / "root"
    (root / "first").mkdir(parents=True)
    model = root / "m"
    if change is linked:
        model.symlink_to("first")
    else:
        model.mkdir()
    version(model, 1)
    async with start(roots=str(root)) as server:
        await server.declared.reload({"m": DeclaredModel(path=str(model), versions="latest")})
        await server.declared.retry("m")  # from now on only the folders of new versions are watched, not those of 1
        change(model)
        await until(lambda: "no numbered versions" in str(server.declared.state().models))
        version(model, 2)
        await until_served(server, "m", 2)
        assert (await server.line.ask(GetWorkspace(name="m")))["deployment"]["version"] == 2
