"""The endpoint table of the workspace API, from which routes, guide and OpenAPI document are generated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tfserve.web.api.workspace import handlers, requests, results


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """`result` is the type of the response's `result`, and `tells` describes it."""

    path: str
    purpose: str
    request: type
    result: Any
    tells: str
    handler: Callable[[handlers.Context, Any], Awaitable[Any]]
    submits: bool = False


ENDPOINTS = (
    Endpoint(
        path="/create/",
        purpose="turn the workspace service on",
        request=requests.Empty,
        result=bool,
        tells="true if it was off; the service is on when the server starts",
        handler=handlers.create,
    ),
    Endpoint(
        path="/destroy/",
        purpose="turn the workspace service off and destroy every workspace",
        request=requests.Empty,
        result=bool,
        tells="true if it was on; until /create/, workspace requests fail with 409",
        handler=handlers.destroy,
    ),
    Endpoint(
        path="/create_workspace/",
        purpose="create a workspace: an isolated Python session with its own job queue",
        request=requests.CreateWorkspace,
        result=str,
        tells="the name of the workspace",
        handler=handlers.create_workspace,
    ),
    Endpoint(
        path="/destroy_workspace/",
        purpose="destroy a workspace, or all workspaces, including jobs, files and model",
        request=requests.DestroyWorkspace,
        result=bool,
        tells="true if something was destroyed",
        handler=handlers.destroy_workspace,
    ),
    Endpoint(
        path="/restart_workspace/",
        purpose="restart a workspace: cancels the running job, deletes variables, keeps queue and model",
        request=requests.OneWorkspace,
        result=bool,
        tells="true",
        handler=handlers.restart_workspace,
    ),
    Endpoint(
        path="/get_workspace/",
        purpose="list the workspaces",
        request=requests.Empty,
        result=list[str],
        tells="the names of the workspaces",
        handler=handlers.get_workspace,
    ),
    Endpoint(
        path="/get_status/",
        purpose="get the status of a workspace",
        request=requests.OneWorkspace,
        result=results.Status,
        tells=(
            "STATUS is INITIAL (starting or restarting), IDLE, BUSY or EXCEPT (failed after repeated crashes); "
            "CUR_JOB_NUM the current or last started job, FIN_JOB_NUM the last finished one (-1 before the first), "
            "JOB_COUNT the number of queued jobs; also folder, pid, memory and deployment"
        ),
        handler=handlers.get_status,
    ),
    Endpoint(
        path="/push_job/",
        purpose="run a Python file or script in a workspace",
        request=requests.PushJob,
        result=results.ScriptResult,
        tells=(
            "the job: finish is true if it ended within the timeout, result is true if it succeeded, variable has the "
            "script's variables; error has type, message and traceback if the script raised an exception"
        ),
        handler=handlers.push_job,
        submits=True,
    ),
    Endpoint(
        path="/clear/",
        purpose="delete all variables of a workspace",
        request=requests.Clear,
        result=results.JobResult,
        tells="the job",
        handler=handlers.clear,
        submits=True,
    ),
    Endpoint(
        path="/deploy/",
        purpose="load a model, replacing the deployed one",
        request=requests.Deploy,
        result=results.DeployResult,
        tells="the job, with the model's version, format, signatures and remarks (notes for users of the model)",
        handler=handlers.deploy,
        submits=True,
    ),
    Endpoint(
        path="/update/",
        purpose="swap new weights or a new version into the deployed model without dropping a request",
        request=requests.Update,
        result=results.DeployResult,
        tells="the job, with the model's version, format, signatures and remarks (notes for users of the model)",
        handler=handlers.update,
        submits=True,
    ),
    Endpoint(
        path="/scale/",
        purpose="change the number of processes that serve the deployed model, without interruption",
        request=requests.Scale,
        result=bool,
        tells="true, once that many processes are serving",
        handler=handlers.scale,
    ),
    Endpoint(
        path="/undeploy/",
        purpose="unload the model and release its memory",
        request=requests.Undeploy,
        result=results.UndeployResult,
        tells="the job, with the amount of memory released",
        handler=handlers.undeploy,
        submits=True,
    ),
    Endpoint(
        path="/predict/",
        purpose="run the deployed model on input data",
        request=requests.Predict,
        result=results.JobResult,
        tells="the job; its result is a list with one value per fetched tensor, in order",
        handler=handlers.predict,
        submits=True,
    ),
    Endpoint(
        path="/cancel_job/",
        purpose="cancel a queued or running job",
        request=requests.CancelJob,
        result=results.CancelResult,
        tells="the job, after it has ended; cancelled is true if this request ended it",
        handler=handlers.cancel_job,
    ),
    Endpoint(
        path="/get_job/",
        purpose="count the queued jobs",
        request=requests.OneWorkspace,
        result=int,
        tells="number of queued jobs",
        handler=handlers.get_job,
    ),
    Endpoint(
        path="/get_finish/",
        purpose="check whether a job has finished",
        request=requests.GetFinish,
        result=bool,
        tells="true if it has finished, with any outcome",
        handler=handlers.get_finish,
    ),
    Endpoint(
        path="/get_variable/",
        purpose="get variables of a workspace",
        request=requests.GetVariable,
        result=dict[str, Any],
        tells=(
            "{name: value}, null for a name that is not set; the full value while the workspace is idle, otherwise "
            "from the snapshot of the last finished script"
        ),
        handler=handlers.get_variable,
    ),
    Endpoint(
        path="/get_result/",
        purpose="get the result of one job, or of all finished jobs",
        request=requests.GetResult,
        result=Any,
        tells="the job's result (null while it is running), or the results of all finished jobs in job-number order",
        handler=handlers.get_result,
    ),
)
