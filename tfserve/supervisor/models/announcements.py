"""Announces the deployed models to the web processes, and waits until they have taken over a change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import DrainModel, Message, ModelChanged, Models, ModelVersion, Request

log = logging.getLogger(__name__)

ANNOUNCE_S = 5.0
"""Maximum time to wait for the response of a web process, which may be stopped by a debugger."""

ORDER = {"draining": 2, "failed": 1}
VERSION_MARK = "@"
"""In the name of a workspace that serves a further version of a model. Workspaces of clients never contain it."""


def workspace_of(model: str, version: int) -> str:
    """The workspace that serves a further version of a model: `prices@3`."""
    return f"{model}{VERSION_MARK}{version}"


def model_of(workspace: str) -> str:
    return workspace.partition(VERSION_MARK)[0]


def version_of(workspace: str) -> int:
    return int(workspace.partition(VERSION_MARK)[2] or 0)


class Announcements:
    """The models by name, and the connections to the web processes.

    A model may have several versions at a time: each further version is served by a workspace of its own.
    """

    def __init__(self) -> None:
        #: what each workspace serves
        self._served: dict[str, list[ModelVersion]] = {}
        #: versions that can't be served, by model
        self._failed: dict[str, list[ModelVersion]] = {}
        #: label -> version, by model
        self._labels: dict[str, dict[str, int]] = {}
        self._lines: set[Connection] = set()

    def everything(self, line: Connection) -> Message:
        """All models, for a web process that starts; from here on it receives every change."""
        self._lines.add(line)
        line.lost.add_done_callback(lambda _: self._lines.discard(line))
        return Models(models=self._models())

    @property
    def lines(self) -> list[Connection]:
        """The connections to the living web processes."""
        return list(self._lines)

    def versions(self) -> Iterator[tuple[str, ModelVersion]]:
        """Every version of every model, with the name of the model."""
        return ((name, version) for name, versions in self._models().items() for version in versions)

    def served(self, name: str) -> set[int]:
        """The versions of a model that take predictions."""
        return {each.version for each in self._versions(name) if each.state == "active" and each.addresses}

    async def announce(self, workspace: str, versions: Sequence[ModelVersion]) -> None:
        """Returns when all web processes have taken over the versions."""
        if versions:
            self._served[workspace] = list(versions)
        else:
            self._served.pop(workspace, None)
        await self._announce(model_of(workspace))

    async def set_labels(self, name: str, labels: Mapping[str, int]) -> None:
        """Returns when all web processes have taken over the labels of a model, in one step."""
        if self._labels.get(name, {}) != labels:
            self._labels[name] = dict(labels)
            await self._announce(name)

    async def set_failed(self, name: str, failed: Sequence[ModelVersion]) -> None:
        """Sets the versions of a model that can't be served."""
        if self._failed.get(name, []) != failed:
            self._failed[name] = list(failed)
            await self._announce(name)

    async def drain(self, workspace: str, id_: int, addresses: Sequence[str], timeout_s: float) -> None:
        """Returns when no web process waits for these replicas, or after `timeout_s`."""
        message = DrainModel(workspace=model_of(workspace), id=id_, addresses=list(addresses))
        await self._send_all(message, timeout_s)

    async def _announce(self, name: str) -> None:
        await self._send_all(ModelChanged(workspace=name, versions=self._versions(name)), ANNOUNCE_S)

    def _models(self) -> dict[str, list[ModelVersion]]:
        names = dict.fromkeys([*map(model_of, self._served), *self._failed])
        return {name: versions for name in names if (versions := self._versions(name))}

    def _versions(self, name: str) -> list[ModelVersion]:
        """The version for requests that name none comes first; those that take no new requests come last."""
        found = list(self._served.get(name, ()))
        further = [workspace for workspace in self._served if workspace != name and model_of(workspace) == name]
        for workspace in sorted(further, key=version_of, reverse=True):
            found += [replace(each, workspace=workspace) for each in self._served[workspace]]
        found.sort(key=lambda each: ORDER.get(each.state, 0))
        shown = {each.version for each in found}
        found += [each for each in self._failed.get(name, ()) if each.version not in shown]
        return [self._labelled(name, each) for each in found]

    def _labelled(self, name: str, version: ModelVersion) -> ModelVersion:
        labels = self._labels.get(name, {}) if version.state != "draining" else {}
        found = [label for label, number in labels.items() if number == version.version]
        return replace(version, labels=found) if found else version

    async def _send_all(self, message: Request[None], timeout_s: float) -> None:
        await send_to_all(self._lines, message, timeout_s)


async def send_to_all(lines: Iterable[Connection], message: Request[None], timeout_s: float) -> None:
    """Returns when every process has responded, or after `timeout_s`."""
    await asyncio.gather(*(_send(line, message, timeout_s) for line in list(lines)))


async def _send(line: Connection, message: Request[None], timeout_s: float) -> None:
    with contextlib.suppress(ConnectionLost):
        try:
            async with asyncio.timeout(timeout_s):
                await line.ask(message)
        except TimeoutError:
            log.warning("a web process did not respond to %s within %g s", type(message).__name__, timeout_s)
