"""The Python client of TFserve.

    from tfserve_client import Client

    with Client("http://127.0.0.1:8000") as client:
        name = client.create_workspace()
        job = client.push_script(name, "for i in range(3): print(i)", timeout=0)
        for text in job.output():
            print(text, end="")

`AsyncClient` has the same methods as coroutines, and asynchronous iterators. It needs httpx only; numpy and Pillow are
used when they are installed. Every method may raise `TFserveError`.
"""

from __future__ import annotations

from tfserve_client.administration import Administration
from tfserve_client.errors import (
    Conflict,
    Forbidden,
    Internal,
    Invalid,
    JobFailed,
    JobTimeout,
    NotFound,
    OutOfSpace,
    Overloaded,
    TFserveError,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnexpectedResponse,
    Unreachable,
    Unsupported,
)
from tfserve_client.jobs import AsyncJob, Failure, Job, Jobs
from tfserve_client.model_jobs import ModelJobs
from tfserve_client.models import Models
from tfserve_client.output import Output
from tfserve_client.predictions import Predictions
from tfserve_client.retries import Retries
from tfserve_client.trainings import Trainings
from tfserve_client.transports import DEFAULT_URL, AsyncTransport, SyncTransport
from tfserve_client.uploads import Uploads
from tfserve_client.workspaces import Workspaces

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_URL", "AsyncClient", "AsyncJob", "Client", "Conflict", "Failure", "Forbidden", "Internal", "Invalid",
    "Job", "JobFailed", "JobTimeout", "NotFound", "OutOfSpace", "Output", "Overloaded", "Retries", "TFserveError",
    "TimedOut", "TooLarge", "Unauthenticated", "Unavailable", "UnexpectedResponse", "Unreachable", "Unsupported",
]  # fmt: skip


class _Methods(Workspaces, Jobs, ModelJobs, Uploads, Models, Predictions, Trainings, Administration):
    """All methods, which both clients share."""


class Client(SyncTransport, _Methods):
    """A client for one server. Threads may share it.

    `url` defaults to the environment variable TFSERVE_URL, then http://127.0.0.1:8000, and `token` to TFSERVE_TOKEN.
    `timeout` is how many seconds a response may take in addition to the wait that a method requests. `ca_file` is the
    CA or self-signed certificate of a server with TLS. `certificate` has the files of the client's certificate and
    key, if the server requires one.
    """


class AsyncClient(AsyncTransport, _Methods):
    """The same as `Client` with coroutines and asynchronous iterators. For one event loop."""
