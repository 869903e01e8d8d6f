"""What is copied for each request to a worker on a node: before it is sent, while it runs, and after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from tfserve.cluster.content.mirror import Changes
from tfserve.cluster.content.threads import in_thread
from tfserve.durable_files import write_durably
from tfserve.ipc.messages import (
    BecomeModel,
    Convert,
    Converted,
    ExamineProject,
    IdentifyModel,
    ModelLoaded,
    ProjectExamined,
    ReadVariables,
    Request,
    RunScript,
    ScriptEnded,
    Train,
)
from tfserve.supervisor.cluster import shares
from tfserve.supervisor.cluster.files import Send, WorkerFiles, asked
from tfserve.supervisor.cluster.mirrors import SharedFolder
from tfserve.supervisor.cluster.path_map import PathMap
from tfserve.supervisor.cluster.remote_training import RemoteTraining
from tfserve.training.dataset.project_folders import problems_of_results, results_folder

R = TypeVar("R")

DERIVED, EXAMINATION = "derived", "examination"


class Carrier:
    """Sends the requests to one worker on a node, with the files that they name."""

    def __init__(self, files: WorkerFiles) -> None:
        self._files = files
        self._folders: dict[str, SharedFolder] = {}
        self._names: dict[str, str] = {}
        self._path_map = PathMap()
        self._carriers: dict[type[Request[Any]], Callable[[Any, Send], Awaitable[Any]]] = {
            BecomeModel: self._become_model,
            IdentifyModel: self._identify,
            Convert: self._convert,
            ExamineProject: self._examine,
            Train: lambda request, send: RemoteTraining(self._files, request).run(send),
            RunScript: self._run_script,
            ReadVariables: self._ask,
        }

    async def carry(self, request: Request[R], send: Callable[[Request[R]], Awaitable[R]]) -> R:
        """The response, with the paths of the head. Raises what `send` raises, and what prevents the copy."""
        carrier = self._carriers.get(type(request))
        response: R = await (send(request) if carrier is None else carrier(request, send))
        return response

    async def _ask(self, request: Request[R], send: Send) -> R:
        return await asked(self._path_map, send, request)

    # --- models

    async def _become_model(self, request: BecomeModel, send: Send) -> ModelLoaded:
        path_map = self._path_map
        for path in filter(None, (request.path, request.source)):
            await self._files.provide(path_map, shares.of_model, path)
        if request.weights is not None:
            await self._files.provide(path_map, shares.of_checkpoint, request.weights)
        local = replace(
            request, path=path_map.to_node(request.path), source=path_map.to_node(request.source),
            weights=None if request.weights is None else path_map.to_node(request.weights),
        )  # fmt: skip
        return await asked(path_map, send, local)

    async def _identify(self, request: IdentifyModel, send: Send) -> str:
        path_map = self._path_map
        await self._files.provide(path_map, shares.of_model, request.path)
        return await asked(path_map, send, replace(request, path=path_map.to_node(request.path)))

    async def _convert(self, request: Convert, send: Send) -> Converted:
        """Each candidate finds in the work folder what the ones before have left there, maybe on other nodes."""
        path_map = self._path_map
        await self._files.provide(path_map, shares.of_model, request.path)
        work = await self._folder(request.work_folder, path_map)
        local = replace(
            request, path=path_map.to_node(request.path), work_folder=path_map.to_node(request.work_folder)
        )  # fmt: skip
        response: Converted = await asked(path_map, send, local)
        if work is not None:
            await work.synchronise()
        return response

    # --- scripts

    async def _run_script(self, request: RunScript, send: Send) -> ScriptEnded:
        """The folder of the workspace is the same on the head and on the node before and after each script."""
        path_map = self._path_map
        folder = await self._folder(request.folder, path_map)
        is_inside = request.file is not None and Path(request.file).is_relative_to(request.folder)
        if request.file is not None and not is_inside:
            await self._files.provide(path_map, shares.of_script, request.file)
        local = replace(
            request, folder=path_map.to_node(request.folder),
            file=None if request.file is None else path_map.to_node(request.file),
        )  # fmt: skip
        try:
            response: ScriptEnded = await asked(path_map, send, local)
        finally:
            if folder is not None:
                await folder.synchronise()
        return response

    # --- data sets

    async def _examine(self, request: ExamineProject, send: Send) -> ProjectExamined:
        path_map = self._path_map
        await self._files.provide(path_map, shares.of_project, request.project_dir, request.parameters)
        parameters = path_map.in_parameters(await self._files.provide_weights(path_map, request.parameters))
        findings = Path(request.findings)
        if self._files.head.is_shared(findings):
            local = replace(request, project_dir=path_map.to_node(request.project_dir), parameters=parameters)
            return await asked(path_map, send, local)
        path_map.add(str(findings.parent), await self._files.open_mirror(EXAMINATION))
        local = replace(
            request, project_dir=path_map.to_node(request.project_dir), parameters=parameters,
            findings=path_map.to_node(request.findings),
            roots=path_map.folders_on_node if request.roots else [],
        )  # fmt: skip
        response: ProjectExamined = await asked(path_map, send, local)
        await self._keep_findings(findings, path_map)
        here = await in_thread(lambda: problems_of_results(results_folder(Path(request.project_dir))))
        return replace(response, problems=[*response.problems, *(p for p in here if p not in response.problems)])

    async def _keep_findings(self, findings: Path, path_map: PathMap) -> None:
        """The list of images, with the paths of the head, after what had to be unpacked for it."""
        listed = await self._files.list_mirror(EXAMINATION)
        unpacked = [each for each in listed if each.path.split("/")[0] == DERIVED]
        await self._files.bring_back(findings.parent, Changes(unpacked, []))
        for each in listed:
            if each.path == findings.name:
                blobs = await self._files.receive([each])
                await in_thread(_write_as_on_head, path_map, blobs.path_of(each.digest), findings)

    # --- parts

    async def _folder(self, folder: str, path_map: PathMap) -> SharedFolder | None:
        """The folder on the node, the same as on the head. None if all machines see it."""
        if self._files.head.is_shared(folder):
            return None
        shared = self._folders.get(folder)
        if shared is None:
            shared = SharedFolder(self._files, Path(folder), self._name_of(folder))
            await shared.open()
            self._folders[folder] = shared
        else:
            await shared.synchronise()
        path_map.add(folder, shared.on_node)
        return shared

    def _name_of(self, folder: str) -> str:
        """On the node. Workspaces that share a process have folders with the same name, one for each."""
        if folder not in self._names:
            own = Path(folder).name
            names = (own if number == 1 else f"{own}-{number}" for number in count(1))
            self._names[folder] = next(name for name in names if name not in self._names.values())
        return self._names[folder]


def _write_as_on_head(path_map: PathMap, findings: Path, to: Path) -> None:
    write_durably(to, path_map.to_head(findings.read_bytes()))
