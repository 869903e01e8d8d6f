"""The tables. Only the supervisor writes them (see `writes`)."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

from tfserve.ipc.messages import JobKind, JobState


class ServerState(models.Model):
    """One row: the server that writes this database, and how long servers have run on it."""

    owner = models.CharField(max_length=100)
    running_s = models.FloatField(default=0.0)
    #: the key from which the secrets of callbacks are derived, in hexadecimal digits; empty until it is needed
    callback_key = models.CharField(max_length=64, default="")
    #: how many servers have started on it: nodes of a cluster refuse one with a lower number than they have seen
    epoch = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.owner


class Workspace(models.Model):
    """An isolated Python session with a queue of its own."""

    class Type(models.IntegerChoices):
        PROCESS = 0
        THREAD = 1

    name = models.CharField(max_length=100, unique=True)
    type = models.IntegerField(choices=Type.choices, default=Type.PROCESS)
    #: the number that the next job gets; kept here because old jobs are pruned
    next_number = models.IntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    #: its own limits (`Limits` as JSON); others are those of the server
    limits = models.JSONField(default=dict)
    #: what the process of its scripts needs (`NeededResources`)
    resources = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name


class Job(models.Model):
    """One piece of work in a workspace's queue."""

    #: None for a training run, which is in no workspace's queue
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="jobs", null=True)
    number = models.IntegerField()
    kind = models.CharField(max_length=10, choices=[(kind, kind) for kind in JobKind])
    state = models.CharField(max_length=10, choices=[(state, state) for state in JobState], default=JobState.QUEUED)
    #: what to do, a JSON object; forgotten when a prediction has ended, since its values may be large
    request = models.TextField(null=True)
    #: seconds that it may run
    time_limit_s = models.FloatField(null=True)
    idempotency_key = models.CharField(max_length=200, null=True)
    #: to check that a repeated key came with the same request
    request_digest = models.CharField(max_length=64, null=True)
    #: how often it was started
    attempts = models.IntegerField(default=0)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    #: `running_time.now_s()` when it finished, which retention goes by
    finished_running_s = models.FloatField(null=True)
    #: of the request that submitted it; empty without one
    traceparent = models.CharField(max_length=60, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "number"], name="job_number_once"),
            models.UniqueConstraint(fields=["workspace", "idempotency_key"], name="idempotency_key_once"),
        ]
        indexes = [models.Index(fields=["workspace", "state", "number"], name="job_by_state")]

    def __str__(self) -> str:
        return f"job {self.number} of {self.workspace_id}"


class Outcome(models.Model):
    """How a job ended. Written once, never changed; all fields are JSON text as it goes to the caller."""

    job = models.OneToOneField(Job, on_delete=models.CASCADE, primary_key=True)
    result = models.TextField(null=True)
    error = models.TextField(null=True)
    #: an object with further fields of the response: stdout, stderr, version, memory
    detail = models.TextField(null=True)

    def __str__(self) -> str:
        return f"outcome of {self.job_id}"


class ModelJob(models.Model):
    """What only deferred predictions and batches have: jobs outside of a workspace, with files of their own."""

    job = models.OneToOneField(Job, on_delete=models.CASCADE, primary_key=True, related_name="model_job")
    #: the `Principal.owner` that submitted it; empty without authentication
    owner = models.CharField(max_length=100, default="")
    #: name of the model
    model = models.CharField(max_length=100)
    #: name of its folder in the data folder
    folder = models.CharField(max_length=32)
    #: of the body of its request, in bytes
    size = models.BigIntegerField(default=0)
    #: of a batch: done, total, errors, output_bytes, rows_per_s
    progress = models.JSONField(default=dict)
    #: rows that were done when it was last interrupted
    reached = models.BigIntegerField(default=0)
    #: interruptions in a row, none of which came after a further row
    fruitless = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"files of job {self.job_id} in {self.folder}"


class Callback(models.Model):
    """The URL that receives a job when it has ended, and the attempts so far."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    job = models.OneToOneField(Job, on_delete=models.CASCADE, primary_key=True, related_name="callback")
    url = models.TextField()
    #: whose secret signs it
    owner = models.CharField(max_length=100, default="")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    attempts = models.IntegerField(default=0)
    #: the HTTP status of the last attempt; None without a response
    last_status = models.IntegerField(null=True)
    last_error = models.TextField(default="")

    def __str__(self) -> str:
        return f"callback of {self.job_id}"


class Snapshot(models.Model):
    """The variables of a workspace as its last finished script left them, bounded in size, and their types."""

    workspace = models.OneToOneField(Workspace, on_delete=models.CASCADE, primary_key=True)
    variables = models.TextField()
    types = models.TextField(default="{}")

    def __str__(self) -> str:
        return f"snapshot of {self.workspace_id}"


class Deployment(models.Model):
    """One version of a model in a workspace."""

    class State(models.TextChoices):
        LOADING = "loading"
        ACTIVE = "active"
        SLEEPING = "sleeping"
        DRAINING = "draining"
        GONE = "gone"
        FAILED = "failed"

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="deployments")
    state = models.CharField(max_length=10, choices=State.choices, default=State.LOADING)
    path = models.TextField()
    #: other weights for a meta graph
    weights = models.TextField(null=True)
    device = models.CharField(max_length=40)
    version = models.BigIntegerField(null=True)
    format = models.CharField(max_length=60, default="")
    #: how it wants to be served: `tfserve.ipc.messages.ModelOptions`
    options = models.JSONField(default=dict)
    #: name of a signature -> its inputs and outputs
    signatures = models.JSONField(default=dict)
    #: notes for its users, as plain sentences
    remarks = models.JSONField(default=list)
    #: why it failed or is gone
    reason = models.TextField(default="")
    #: whether the server deployed it by itself, because it was declared
    declared = models.BooleanField(default=False)
    #: what is known of an active deployment that sleeps (`tfserve.supervisor.models.deployment.Asleep`); otherwise null
    asleep = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.path} in {self.workspace_id}"


class Declared(models.Model):
    """The last valid declarations of one source, a JSON object: they stay in force while the source has mistakes."""

    source = models.CharField(max_length=20, primary_key=True)
    content = models.TextField()
    accepted_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.source


class TrainingTask(models.Model):
    """A project folder in, a trained model out. Its state is that of its current run."""

    task_id = models.CharField(max_length=32, unique=True)
    #: the current run; a resumed task has another one than before
    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="task")
    #: the `Principal.owner` that started it; empty without authentication
    owner = models.CharField(max_length=100, default="")
    user_id = models.TextField()
    project_id = models.TextField()
    project_dir = models.TextField()
    train_type = models.CharField(max_length=20)
    parameters = models.JSONField(default=dict)
    #: what the process that trains needs (`NeededResources`)
    resources = models.JSONField(default=dict)
    #: the workspace in which the result is deployed when the run ends
    deploy_to = models.CharField(max_length=100, null=True)
    #: 0..100, never goes back
    progress = models.FloatField(default=0.0)
    message = models.TextField(default="")
    eta_s = models.FloatField(null=True)
    metrics = models.JSONField(null=True)
    model_path = models.TextField(null=True)
    #: what was left out of the project, as {path, reason}
    skipped = models.JSONField(default=list)
    #: layout, classes, split and remarks, as the examination found them
    dataset = models.JSONField(default=dict)
    #: the last epoch of which a checkpoint was kept when a run died
    reached = models.IntegerField(default=0)
    #: deaths in a row since, none of which came after a further checkpoint
    fruitless = models.IntegerField(default=0)
    #: the last state that was reported to the operator's server; None if this task is not reported
    reported_state = models.CharField(max_length=20, null=True)
    #: the trace (W3C Trace Context) of the request that started it
    traceparent = models.CharField(max_length=60, default="")
    #: the name of the worker that has the task, empty while it waits
    worker = models.CharField(max_length=40, default="")

    class Meta:
        indexes = [models.Index(fields=["user_id", "project_id"], name="task_by_project")]

    def __str__(self) -> str:
        return self.task_id


class Token(models.Model):
    """An access token, without its secret. Revoked ones are kept, because what they created names them."""

    name = models.CharField(max_length=64)
    scopes = models.JSONField()
    #: names of the only workspaces that exist for it; None: all
    workspaces = models.JSONField(null=True)
    #: SHA-256 of the secret, and of the one before the last rotation, in hexadecimal digits
    digest = models.CharField(max_length=64, unique=True)
    previous_digest = models.CharField(max_length=64, null=True)
    previous_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=100, default="")
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(revoked_at=None), name="token_name_once_unless_revoked"
            )
        ]

    def __str__(self) -> str:
        return self.name


class User(AbstractBaseUser):
    """A person who logs in to the pages."""

    username = models.CharField(max_length=64, unique=True)
    last_login = None

    USERNAME_FIELD = "username"
    objects = BaseUserManager()


class EndedSession(models.Model):
    """A log-in whose person has logged out, until its cookie would have expired."""

    log_in_id = models.CharField(max_length=64, primary_key=True)
    ended_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.log_in_id
