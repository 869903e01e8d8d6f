"""The reads, for the APIs and the pages: plain rows, no process, nothing live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from django.db.models import Max, Q, QuerySet, Sum
from django.db.models.functions import Length

from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.db.models import Deployment, Job, ModelJob, Snapshot, TrainingTask, Workspace
from tfserve.errors import JobNoLongerKept, NoSuchJob, NoSuchWorkspace, NotFound, TooLarge
from tfserve.ipc.messages import FINISHED, MODEL_KINDS, JobKind, JobState
from tfserve.model_job_files import FOLDER as MODEL_JOBS

TASK_OUTPUT = "output"
"""The file that all runs of a training task print to, one after the other."""


def workspace(name: str) -> Workspace:
    """Raises `NoSuchWorkspace`."""
    found = Workspace.objects.filter(name=name).first()
    if found is None or not PRINCIPAL.get().sees_workspace(name):
        raise NoSuchWorkspace(name, workspace_names())
    return found


def workspace_names() -> list[str]:
    return PRINCIPAL.get().visible(Workspace.objects.order_by("pk").values_list("name", flat=True))


def is_visible_workspace(workspace_id: int) -> bool:
    """Whether the caller may know of the workspace with this id."""
    name = Workspace.objects.filter(pk=workspace_id).values_list("name", flat=True).first()
    return name is not None and PRINCIPAL.get().sees_workspace(name)


def job(workspace: Workspace, number: int | None) -> Job:
    """The job with this number, by default the newest. Raises `NoSuchJob`, `JobNoLongerKept`."""
    if number is None:
        number = workspace.next_number - 1
    if not 0 <= number < workspace.next_number:
        raise NoSuchJob(name=workspace.name, job=number, count=workspace.next_number)
    found = _whole(Job.objects.filter(workspace=workspace, number=number)).first()
    if found is None:
        raise JobNoLongerKept(name=workspace.name, job=number)
    return found


def job_by_id(job_id: int) -> Job:
    """Raises `NotFound`."""
    found = _whole(Job.objects.filter(pk=job_id)).first()
    if found is None or not _is_visible(found):
        raise NotFound(
            f"Job {job_id} not found: it does not exist or is no longer kept. GET /jobs/ lists the available jobs."
        )
    return found


def finished_jobs(workspace: Workspace, *, limit_bytes: int) -> list[Job]:
    """Raises `TooLarge` when their results together do not fit into a response."""
    finished = Job.objects.filter(workspace=workspace, state__in=FINISHED).order_by("number")
    size = finished.aggregate(size=Sum(Length("outcome__result")))["size"] or 0
    if size > limit_bytes:
        raise TooLarge(
            f"All results together are {size} bytes, over the response limit ({limit_bytes}: max_response_bytes)."
            " Fetch them one at a time with `job`."
        )
    return list(finished.select_related("outcome").only("number", "outcome__result"))


def jobs(
    *, name: str | None, state: JobState | None, kind: JobKind | None, limit: int, offset: int
) -> tuple[Sequence[Job], int]:
    """One page of jobs, newest first, and how many there are in all."""
    found = Job.objects.order_by("-pk").select_related("workspace", "outcome")
    found = _visible(found.defer("request", "outcome__result", "outcome__detail"))
    if name is not None:
        found = found.filter(workspace=workspace(name))
    if state is not None:
        found = found.filter(state=state)
    if kind is not None:
        found = found.filter(kind=kind)
    return list(found[offset : offset + limit]), found.count()


def snapshot(workspace: Workspace) -> str:
    """The variables that the last finished script left, a JSON object."""
    found = Snapshot.objects.filter(workspace=workspace).first()
    return "{}" if found is None else found.variables


def variable_types(workspace: Workspace) -> str:
    """What these variables are in Python, a JSON object. Empty for those that an earlier release has stored."""
    found = Snapshot.objects.filter(workspace=workspace).first()
    return "{}" if found is None else found.types


def last_deployment(name: str) -> Deployment | None:
    """What was deployed last in a workspace, if it ever served: its path can be deployed again.

    Raises `NoSuchWorkspace`.
    """
    deployments = Deployment.objects.filter(workspace=workspace(name)).order_by("-pk")
    return deployments.exclude(version=None).first() or deployments.first()


def last_deployments() -> list[Deployment]:
    """The newest deployment of each workspace that ever had one, without further versions of a model."""
    newest = (
        Deployment.objects.exclude(workspace__name__contains="@")
        .values("workspace")
        .annotate(newest=Max("pk"))
        .values("newest")
    )
    found = Deployment.objects.filter(pk__in=newest).select_related("workspace").defer("signatures")
    return [each for each in found if PRINCIPAL.get().sees_workspace(each.workspace.name)]


def output_path(data_folder: Path, job: Job) -> Path:
    """The output file of a job. It is missing if the job printed nothing."""
    if job.workspace_id is not None:
        return data_folder / "workspaces" / str(job.workspace_id) / "jobs" / f"{job.number}.out"
    if job.kind in MODEL_KINDS:
        return data_folder / MODEL_JOBS / "no-output"
    folder = TrainingTask.objects.filter(job=job).values_list("task_id", flat=True).first() or "earlier"
    return data_folder / "training" / folder / TASK_OUTPUT


def _is_visible(job: Job) -> bool:
    """Whether the caller may know of a job: one of its workspaces, of its predictions or of its trainings."""
    principal = PRINCIPAL.get()
    if job.workspace is not None:
        return principal.sees_workspace(job.workspace.name)
    model_job: ModelJob | None = getattr(job, "model_job", None)
    if model_job is not None:
        return principal.sees_owned_by(model_job.owner) and principal.sees_workspace(model_job.model)
    owner = TrainingTask.objects.filter(job=job).values_list("owner", flat=True).first()
    if owner is None:  # a run before the last one has no task any more, so nothing says whose it was
        return principal.is_admin
    return Scope.TRAIN in principal.scopes and principal.sees_owned_by(owner)


def _visible(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Those of `jobs` that the caller may know of."""
    principal = PRINCIPAL.get()
    if principal.is_admin:
        return jobs
    in_workspaces = Q(workspace__isnull=False)
    if principal.workspaces is not None:
        in_workspaces = Q(workspace__name__in=principal.workspaces)
    owners = ("", principal.owner)
    of_models = Q(workspace=None, model_job__owner__in=owners)
    if principal.workspaces is not None:
        of_models &= Q(model_job__model__in=principal.workspaces)
    if Scope.TRAIN not in principal.scopes:
        return jobs.filter(in_workspaces | of_models)
    # A run before the last one has no task any more, so nothing says whose it was.
    own = Q(workspace=None, task__owner__in=owners)
    return jobs.filter(in_workspaces | of_models | own)


def _whole(jobs: QuerySet[Job]) -> QuerySet[Job]:
    return jobs.select_related("workspace", "outcome", "callback", "model_job")
