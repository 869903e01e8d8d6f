"""Which requests a node answers itself."""

from __future__ import annotations

import pytest

from tfserve.node.routing import is_local


def scope(method: str, path: str, **headers: str) -> dict[str, object]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": pairs}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/m:predict"), ("POST", "/v1/models/m/versions/2:classify"), ("GET", "/v1/models"),
        ("POST", "/v2/models/m/infer"), ("GET", "/v2"), ("GET", "/v2/models/m/ready"), ("GET", "/v2/health/ready"),
    ],
)  # fmt: skip
def test_predictions_and_what_is_known_of_models_are_answered_by_the_node(method: str, path: str) -> None:
    assert is_local(scope(method, path), needs_token=False)
    assert is_local(scope(method, path, authorization="Bearer x", accept="text/html"), needs_token=True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("POST", "/deploy/"), ("GET", "/pages/models"), ("GET", "/v2x"), ("GET", "/v1"),
        ("POST", "/v2/repository/index"), ("POST", "/v2/repository/models/m/load"),
        ("GET", "/v2/models/stats"), ("GET", "/v2/models/m/versions/1/stats"), ("GET", "/metrics"),
    ],
)  # fmt: skip
def test_what_is_recorded_is_answered_by_the_head(method: str, path: str) -> None:
    assert not is_local(scope(method, path), needs_token=False)


def test_deferred_predictions_are_jobs_of_the_head() -> None:
    assert not is_local(scope("POST", "/v2/models/m/infer", prefer="respond-async"), needs_token=False)
    assert is_local(scope("POST", "/v2/models/m/infer", prefer="wait=5"), needs_token=False)


def test_the_head_knows_the_sessions_of_people() -> None:
    session, browser = {"cookie": "tfserve_session=x"}, {"accept": "text/html"}
    assert not is_local(scope("POST", "/v1/models/m:predict", **session), needs_token=True)
    assert not is_local(scope("GET", "/v1/models/m", **browser), needs_token=True)
    assert is_local(scope("POST", "/v1/models/m:predict", **session, x_api_key="x"), needs_token=True)
    assert is_local(scope("POST", "/v1/models/m:predict", **session), needs_token=False)
    assert is_local(scope("GET", "/v2/health/ready", **session), needs_token=True)
