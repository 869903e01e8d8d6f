"""The web process's line to the supervisor, with an answer type for each question."""

from __future__ import annotations

from typing import Any, TypeVar

from tfserve.errors import Internal, Unavailable
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import (
    CancelJob,
    CancelTask,
    CreateWorkspace,
    DestroyWorkspace,
    Done,
    FeedbackKept,
    GetMetrics,
    GetModels,
    GetServer,
    GetVariables,
    GetWorkspace,
    IsReady,
    JobAnswer,
    KeepFeedback,
    ListWorkspaces,
    Message,
    Metrics,
    Models,
    ModelVersion,
    RestartWorkspace,
    ResumeTask,
    ScaleModel,
    StartTraining,
    SubmitJob,
    TurnService,
    Variables,
    WaitChange,
    WaitOutput,
    WakeModel,
    WebReady,
)

T = TypeVar("T")


class SupervisorLine:
    """Asks the supervisor. Every method raises the error that the supervisor answers with."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell_ready(self) -> None:
        self._connection.tell(WebReady())

    async def server(self) -> dict[str, Any]:
        value: dict[str, Any] = await self._value(GetServer())
        return value

    async def metrics(self) -> Metrics:
        """Of the whole server: what all web processes have counted is added up."""
        return await self._ask(GetMetrics(), Metrics)

    async def is_ready(self) -> bool:
        return bool(await self._value(IsReady()))

    async def workspace_names(self) -> list[str]:
        return list(await self._value(ListWorkspaces()))

    async def turn_service(self, *, on: bool) -> bool:
        return bool(await self._value(TurnService(on=on)))

    async def create_workspace(self, name: str | None, type_: int) -> str:
        return str(await self._value(CreateWorkspace(name=name, type=type_)))

    async def destroy_workspace(self, name: str | None) -> bool:
        return bool(await self._value(DestroyWorkspace(name=name)))

    async def restart_workspace(self, name: str) -> bool:
        return bool(await self._value(RestartWorkspace(name=name)))

    async def scale_model(self, workspace: str, replicas: int) -> bool:
        return bool(await self._value(ScaleModel(workspace=workspace, replicas=replicas)) is None)

    async def wake_model(self, workspace: str) -> None:
        """Returns when TensorFlow's process of the model is there, and told."""
        await self._value(WakeModel(workspace=workspace))

    async def models(self) -> dict[str, list[ModelVersion]]:
        """All deployed models; every change after this is told without being asked for."""
        return (await self._ask(GetModels(), Models)).models

    async def workspace(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = await self._value(GetWorkspace(name=name))
        return value

    async def submit(self, job: SubmitJob) -> JobAnswer:
        return await self._ask(job, JobAnswer)

    async def cancel(self, workspace: str, job: int) -> JobAnswer | None:
        """The job when it has ended; None when it neither waits nor runs."""
        answer = await self._question(CancelJob(workspace=workspace, job=job))
        return answer if isinstance(answer, JobAnswer) else None

    async def start_training(self, task: StartTraining) -> str:
        return str(await self._value(task))

    async def cancel_task(self, task_id: str) -> None:
        await self._value(CancelTask(task_id=task_id))

    async def resume_task(self, task_id: str) -> None:
        await self._value(ResumeTask(task_id=task_id))

    async def keep_feedback(self, task_id: str, label: str, image: bytes) -> FeedbackKept:
        return await self._ask(KeepFeedback(task_id=task_id, label=label, image=image), FeedbackKept)

    async def variables(self, workspace: str, names: list[str] | None) -> Variables:
        return await self._ask(GetVariables(workspace=workspace, names=names), Variables)

    async def wait_output(self, job_id: int, offset: int, wait_s: float) -> bool:
        return bool(await self._value(WaitOutput(job_id=job_id, offset=offset, wait_s=wait_s)))

    async def wait_change(self, since: int, wait_s: float) -> int:
        return int(await self._value(WaitChange(since=since, wait_s=wait_s)))

    async def _value(self, message: Message) -> Any:
        return (await self._ask(message, Done)).value

    async def _ask(self, message: Message, kind: type[T]) -> T:
        answer = await self._question(message)
        if not isinstance(answer, kind):
            raise Internal(f"the supervisor answered {type(answer).__name__} to {type(message).__name__}")
        return answer

    async def _question(self, message: Message) -> Message:
        try:
            return await self._connection.ask(message)
        except ConnectionLost:
            raise Unavailable("The server is stopping.") from None
