"""The one table of the workspace API. Routes, guide and OpenAPI document are made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tfserve.protocols.tfserve import handlers, requests, results


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """`result` is the type of the answer's `result`, `tells` says it in words."""

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
        tells="true if it was off; it is on when the server starts",
        handler=handlers.create,
    ),
    Endpoint(
        path="/destroy/",
        purpose="turn the workspace service off and destroy every workspace",
        request=requests.Empty,
        result=bool,
        tells="true if it was on; until /create/ every workspace call fails with 409",
        handler=handlers.destroy,
    ),
    Endpoint(
        path="/create_workspace/",
        purpose="make a workspace: an isolated Python session with a queue of its own",
        request=requests.CreateWorkspace,
        result=str,
        tells="the workspace's name",
        handler=handlers.create_workspace,
    ),
    Endpoint(
        path="/destroy_workspace/",
        purpose="destroy a workspace, or all, with jobs, files and model",
        request=requests.DestroyWorkspace,
        result=bool,
        tells="true if something was destroyed",
        handler=handlers.destroy_workspace,
    ),
    Endpoint(
        path="/restart_workspace/",
        purpose="give a workspace a fresh process: running job cancelled, variables gone, queue and model kept",
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
        tells="the workspaces' names",
        handler=handlers.get_workspace,
    ),
    Endpoint(
        path="/get_status/",
        purpose="tell how a workspace is doing",
        request=requests.OneWorkspace,
        result=results.Status,
        tells=(
            "STATUS is INITIAL (starting or restarting), IDLE, BUSY or EXCEPT (given up after repeated deaths); "
            "CUR_JOB_NUM the current or last started job, FIN_JOB_NUM the last finished one (-1 before the first), "
            "JOB_COUNT the jobs still waiting; also folder, pid, memory and deployment"
        ),
        handler=handlers.get_status,
    ),
    Endpoint(
        path="/push_job/",
        purpose="run a Python file or script in a workspace",
        request=requests.PushJob,
        result=results.ScriptResult,
        tells=(
            "the job: finish tells whether it ended within the timeout, result whether it succeeded, variable what it "
            "left; error has type, message and traceback when the script raised"
        ),
        handler=handlers.push_job,
        submits=True,
    ),
    Endpoint(
        path="/clear/",
        purpose="forget all variables of a workspace",
        request=requests.Clear,
        result=results.JobResult,
        tells="the job",
        handler=handlers.clear,
        submits=True,
    ),
    Endpoint(
        path="/deploy/",
        purpose="load a model, in place of the one deployed before",
        request=requests.Deploy,
        result=results.DeployResult,
        tells="the job; with the version, its format, signatures and remarks (what users of the model must know)",
        handler=handlers.deploy,
        submits=True,
    ),
    Endpoint(
        path="/update/",
        purpose="swap new weights or a new version into the deployed model without dropping a request",
        request=requests.Update,
        result=results.DeployResult,
        tells="the job; with the version, its format, signatures and remarks (what users of the model must know)",
        handler=handlers.update,
        submits=True,
    ),
    Endpoint(
        path="/scale/",
        purpose="change how many processes hold the deployed model, while it serves",
        request=requests.Scale,
        result=bool,
        tells="true, when so many serve",
        handler=handlers.scale,
    ),
    Endpoint(
        path="/undeploy/",
        purpose="unload the model and give its memory back",
        request=requests.Undeploy,
        result=results.UndeployResult,
        tells="the job; with the memory that was given back",
        handler=handlers.undeploy,
        submits=True,
    ),
    Endpoint(
        path="/predict/",
        purpose="compute with the deployed model",
        request=requests.Predict,
        result=results.JobResult,
        tells="the job; its result is a list with one value for each fetched tensor, in order",
        handler=handlers.predict,
        submits=True,
    ),
    Endpoint(
        path="/cancel_job/",
        purpose="end a job that waits or runs",
        request=requests.CancelJob,
        result=results.CancelResult,
        tells="the job when it has really ended; cancelled tells whether this call ended it",
        handler=handlers.cancel_job,
    ),
    Endpoint(
        path="/get_job/",
        purpose="count the jobs that wait",
        request=requests.OneWorkspace,
        result=int,
        tells="number of jobs still waiting",
        handler=handlers.get_job,
    ),
    Endpoint(
        path="/get_finish/",
        purpose="tell whether a job has finished",
        request=requests.GetFinish,
        result=bool,
        tells="whether it has finished, in whatever way",
        handler=handlers.get_finish,
    ),
    Endpoint(
        path="/get_variable/",
        purpose="read variables of a workspace",
        request=requests.GetVariable,
        result=dict[str, Any],
        tells=(
            "{name: value}, null for a name that is not set; the full value while the workspace is idle, else from the "
            "snapshot that the last finished script left"
        ),
        handler=handlers.get_variable,
    ),
    Endpoint(
        path="/get_result/",
        purpose="fetch the result of one job, or of all finished jobs",
        request=requests.GetResult,
        result=Any,
        tells="the job's result (null while it runs), or the list of the results of all finished jobs by number",
        handler=handlers.get_result,
    ),
)
