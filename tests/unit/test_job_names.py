"""Jobs are named after what they run."""

from __future__ import annotations

import msgspec
import pytest

from tfserve.errors import Failure
from tfserve.ipc.messages import (
    BatchJob,
    DeferredJob,
    DeployJob,
    JobKind,
    JobRequest,
    PredictJob,
    ScriptJob,
    UpdateJob,
)
from tfserve.web.pages.job_names import BEGINNING_CHARS, first_meaningful_line, job_name


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("x = 1", "x = 1"),
        ("import numpy as np\nfrom os import path\n\n# weights\nw = np.ones(3)", "w = np.ones(3)"),
        ('"""Train the model."""\nimport os', "Train the model."),
        ('"""\nTrain the model.\n"""', "Train the model."),
        ("'one quote'", "one quote"),
        ("import numpy", "import numpy"),
        ("# only a comment", "# only a comment"),
        ("\n\n   \n", ""),
        ("%matplotlib inline\nplot()", "plot()"),
        ("import os\nimportance = 3", "importance = 3"),
    ],
)
def test_the_first_meaningful_line(script: str, line: str) -> None:
    assert first_meaningful_line(script) == line


@pytest.mark.parametrize(
    ("job", "name"),
    [
        (ScriptJob(clear=False, text="import os\nprint('\"é\" 😀')"), "print('\"é\" 😀')"),
        (ScriptJob(clear=True, file="/srv/scripts/fit.py"), "fit.py"),
        (ScriptJob(clear=False, text=""), "script"),
        (ScriptJob(clear=False, text="y = " + "1 + " * 100 + "1"), "y = " + "1 + " * 13 + "1 +…"),
        (ScriptJob(clear=False, text="x = 1\n" * 10_000), "x = 1"),
        (ScriptJob(clear=False, text='s = "\\"file\\":\\"no.py\\""'), 's = "\\"file\\":\\"no.py\\""'),
        (DeployJob(path="/models/mobilenet"), "deploy mobilenet"),
        (DeployJob(path="/models/mobilenet/3"), "deploy mobilenet/3"),
        (DeployJob(path="/models/flowers/saved_model"), "deploy flowers"),
        (DeployJob(path="/models/digits.keras"), "deploy digits.keras"),
        (DeployJob(path="/7"), "deploy 7"),
        (UpdateJob(path="/models/mobilenet/4"), "update mobilenet/4"),
        (PredictJob(fetches=["y", "z:0"]), "predict y, z:0"),
        (BatchJob(model="flowers", input="/data/files", format="folder"), "batch flowers"),
        (DeferredJob(protocol="v1", path="/v1/models/my%20model:predict"), "predict my model"),
        (DeferredJob(protocol="v2", path="/v2/models/digits/versions/3/infer"), "predict digits"),
    ],
)
def test_a_job_has_the_name_of_what_it_runs(job: JobRequest, name: str) -> None:
    request = job.encode()
    assert job_name(request.kind, request.json.decode()[:BEGINNING_CHARS]) == name


def test_a_request_can_be_cut_off_anywhere() -> None:
    request = ScriptJob(clear=False, text='a = "\\\u0001é"').encode().json.decode()
    names = [job_name("script", request[:length]) for length in range(len(request) + 1)]
    assert names[0] == "script"
    assert names[-1] == 'a = "\\\u0001é"'


def test_jobs_without_a_request_have_a_name() -> None:
    others = {"clear": "clear variables", "deferred": "predict"}
    assert {kind: job_name(kind, None) for kind in JobKind} == {kind: others.get(kind, str(kind)) for kind in JobKind}
    assert job_name("train", None, "/data/flowers") == "train flowers"


@pytest.mark.usefixtures("django_settings")
def test_the_error_of_a_row_is_read_from_its_beginning() -> None:
    from tfserve.db.models import Job
    from tfserve.web.pages import job_rows

    for traceback in ("short", "x" * 9000):
        failure = Failure("script_error", 'a "quoted" message', "ValueError", traceback)
        beginning = msgspec.json.encode(failure).decode()[: job_rows.FAILURE_CHARS]
        job = Job()
        vars(job)["failure"] = beginning  # as annotated by the query
        (row,) = job_rows._rows([job])
        assert row.failure is not None
        assert (row.failure.code, row.failure.message, row.failure.type) == failure_in_short(failure)


def failure_in_short(failure: Failure) -> tuple[str, str, str | None]:
    return failure.code, failure.message, failure.type
