"""Messages between processes: every request knows its response, and job requests read as in earlier releases."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tfserve.errors import Internal, Invalid
from tfserve.ipc import frames
from tfserve.ipc.messages import (
    BatchJob,
    CancelJob,
    ClearJob,
    DeferredJob,
    DeployJob,
    Done,
    EncodedRequest,
    GetServer,
    GetWorkspace,
    IsReady,
    JobKind,
    JobRequest,
    JobState,
    JobStatus,
    Message,
    ModelOptions,
    Outcome,
    PredictJob,
    Request,
    ScriptJob,
    StartTraining,
    SubmitJob,
    TrainJob,
    UndeployJob,
    UpdateJob,
    WaitChange,
)
from tfserve.ipc.messages.base import to_response

STATUS = JobStatus(
    job=0, id=1, kind=JobKind.SCRIPT, state=JobState.SUCCEEDED, outcome=Outcome(state=JobState.SUCCEEDED)
)


# --- requests and responses


@pytest.mark.parametrize(
    ("request_", "message", "response"),
    [
        (IsReady(), Done(value=True), True),
        (WaitChange(since=1, wait_s=0.0), Done(value=2), 2),
        (GetWorkspace(name="w"), Done(value={"name": "w"}), {"name": "w"}),
        (SubmitJob(workspace="w", request=ClearJob().encode()), STATUS, STATUS),
        (CancelJob(workspace="w", job=0), STATUS, STATUS),
        (CancelJob(workspace="w", job=0), Done(), None),
    ],
)
def test_a_response_has_the_type_that_its_request_declares(
    request_: Request[Any], message: Message, response: object
) -> None:
    assert to_response(request_, message) == response


@pytest.mark.parametrize(
    ("request_", "message", "problem"),
    [
        (IsReady(), Done(value="yes"), "unexpected response to IsReady: Expected `bool`, got `str`"),
        (GetServer(), STATUS, "unexpected response to GetServer: "),
        (SubmitJob(workspace="w", request=ClearJob().encode()), Done(), "unexpected response to SubmitJob: "),
    ],
)
def test_a_response_of_another_type_is_an_internal_error(
    request_: Request[Any], message: Message, problem: str
) -> None:
    with pytest.raises(Internal, match=problem):
        to_response(request_, message)


@pytest.mark.parametrize(
    "message",
    [
        IsReady(),
        Done(value=[1, "a"]),
        STATUS,
        SubmitJob(workspace="w", request=ScriptJob(clear=True, text="x").encode()),
    ],
)
def test_messages_arrive_as_they_were_sent(message: Message) -> None:
    frame = frames.encode(7, message)
    for cut in range(len(frame)):  # wherever the stream is split
        reader = frames.FrameReader()
        received = [*reader.feed(frame[:cut]), *reader.feed(frame[cut:])]
        assert received == [(7, message)]


def test_an_integer_of_more_than_64_bits_is_refused() -> None:
    request = StartTraining(
        user_id="u", project_id="p", project_dir="/p", train_type="classification", parameters={"epochs": 2**64}
    )
    with pytest.raises(Invalid, match="an integer is out of range"):
        frames.encode(1, request)


# --- job requests

REQUESTS: list[tuple[JobRequest, JobKind, str]] = [
    (ScriptJob(clear=False, text="x = 1"), JobKind.SCRIPT, '{"clear":false,"text":"x = 1"}'),
    (ScriptJob(clear=True, file="/s.py"), JobKind.SCRIPT, '{"clear":true,"file":"/s.py"}'),
    (ScriptJob(clear=False, text=""), JobKind.SCRIPT, '{"clear":false,"text":""}'),
    (ClearJob(), JobKind.CLEAR, "{}"),
    (UpdateJob(path="/m"), JobKind.UPDATE, '{"path":"/m","warm_up":null}'),
    (UpdateJob(path="/m", warm_up={"x": [2**70]}), JobKind.UPDATE, f'{{"path":"/m","warm_up":{{"x":[{2**70}]}}}}'),
    (UndeployJob(), JobKind.UNDEPLOY, "{}"),
    (
        PredictJob(fetches=["y"], feed_dict={"x": msgspec.Raw(b"[1.50, 2e0]")}),
        JobKind.PREDICT,
        '{"fetches":["y"],"feed_dict":{"x":[1.50, 2e0]},"signature":"serving_default"}',
    ),
    (
        DeployJob(path="/m", options=ModelOptions(max_batch_size=8, warm_up=False)),
        JobKind.DEPLOY,
        '{"path":"/m","device":"/cpu:0","options":{"runtime":"auto","replicas":1,"max_batch_size":8,"max_delay_s":0.0,'
        '"precision":"float32","image":null,"warm_up":false,"stateless":false,"inputs":[],"outputs":[]}}',
    ),
    (TrainJob(), JobKind.TRAIN, "{}"),
    (
        DeferredJob(protocol="v1", path="/v1/models/m:predict", headers={"priority": "u=0"}),
        JobKind.DEFERRED,
        '{"protocol":"v1","path":"/v1/models/m:predict","headers":{"priority":"u=0"}}',
    ),
    (
        BatchJob(model="m", input="/rows.csv", format="csv", columns={"x": ["a", "b"]}),
        JobKind.BATCH,
        '{"model":"m","input":"/rows.csv","format":"csv","columns":{"x":["a","b"]}}',
    ),
]


@pytest.mark.parametrize(("request_", "kind", "text"), REQUESTS)
def test_a_job_request_is_stored_as_in_earlier_releases(request_: JobRequest, kind: JobKind, text: str) -> None:
    """Byte by byte, because a repeated idempotency key is compared with a digest of the text."""
    encoded = request_.encode()
    assert (encoded.kind, encoded.json.decode()) == (kind, text)
    assert encoded.decode() == request_


def test_every_kind_of_job_has_a_request() -> None:
    assert {kind for _, kind, _ in REQUESTS} == set(JobKind)


@pytest.mark.parametrize(
    ("kind", "stored", "request_"),
    [
        (JobKind.DEPLOY, {"path": "/m", "device": "/gpu:0"}, DeployJob(path="/m", device="/gpu:0")),
        (
            JobKind.DEPLOY,
            {"path": "/m", "options": {"replicas": 2, "later": 1}},
            DeployJob(path="/m", options=ModelOptions(replicas=2)),
        ),
        (JobKind.UPDATE, {"path": "/m"}, UpdateJob(path="/m")),
    ],
    ids=["without options", "with options of another release", "without warm_up"],
)
def test_requests_with_fewer_or_unknown_fields_are_read(
    kind: JobKind, stored: dict[str, Any], request_: JobRequest
) -> None:
    assert EncodedRequest(kind, json.dumps(stored).encode()).decode() == request_
