"""Resources, placement and autoscaling as request fields, and what a machine or a workspace has of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tfserve.errors import Invalid
from tfserve.ipc.messages import Autoscale, ModelOptions, Resources, UpdateJob
from tfserve.ipc.messages.cluster import Demand
from tfserve.supervisor.models.changed_options import changed
from tfserve.supervisor.models.deployment import Deployment, options_of
from tfserve.supervisor.this_machine import CannotBeMet, ThisMachine, covers, gpus, unmet
from tfserve.web.api.json_requests import RequestReader
from tfserve.web.api.workspace.requests import Deploy, Scale, Update

MACHINE = {"cpu": 4.0, "gpu": 1.0, "memory": 8.0 * 2**30}


def deploy(**fields: Any) -> ModelOptions:
    body = msgspec.json.encode({"name": "w", "path": "/m", **fields})
    return RequestReader(Deploy).read(body, []).options


def update(**fields: Any) -> UpdateJob:
    return RequestReader(Update).read(msgspec.json.encode({"name": "w", "path": "/m", **fields}), []).job("/m")


def test_given_resources_are_kept_as_they_were_given() -> None:
    given = Resources(cpu=2, gpu=0.5, memory="4GiB", node="big")
    assert given.needed() == {"cpu": 2, "gpu": 0.5, "memory": "4GiB", "node": "big"}
    assert Resources().needed() == {}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"resources": {"gpus": 1}}, r"unknown field `gpus` - at `\$\.resources` \(did you mean 'gpu'\?\)"),
        ({"resources": {"gpu": "1"}}, r"Expected `float`, got `str` - at `\$\.resources\.gpu`"),
        ({"resources": {"cpu": -1}}, r"resources\.cpu"),
        ({"resources": {"gpu": 1.5}}, r"resources\.gpu must be a whole number, or a part of one GPU below 1, got 1\.5"),
        ({"resources": {"memory": "much"}}, r"resources\.memory must be a size such as 512MiB"),
        ({"resources": ["gpu"]}, r"Expected `object"),
        ({"placement": "stack"}, r"Invalid enum value 'stack'"),
        ({"autoscale": {"min": 1}}, r"missing required field `max`"),
        ({"autoscale": {"min": 3, "max": 2}}, r"autoscale\.min must be at most autoscale\.max \(2\), got 3"),
        ({"autoscale": {"min": 0, "max": 2}}, r"autoscale\.min"),
        (
            {"autoscale": {"max": 2, "target": 3}},
            r"unknown field `target` - at `\$\.autoscale` \(did you mean 'target_queue'\?\)",
        ),
        ({"autoscale": {"min": 1, "max": 2}, "replicas": 3}, r"replicas must be between .* \(1 to 2\), got 3"),
        ({"autoscale": {"min": 3, "max": 4}, "replicas": 2}, r"replicas must be between .* \(3 to 4\), got 2"),
    ],
)
def test_what_can_not_be_understood_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        deploy(**fields)


def test_fields_that_were_not_given_are_not_stored() -> None:
    stored = msgspec.to_builtins(deploy())
    assert stored.keys().isdisjoint({"resources", "placement", "autoscale"})
    assert msgspec.to_builtins(deploy(placement="spread", resources={})) == stored
    assert b"autoscale" not in update().encode().json


def test_a_model_begins_with_the_fewest_replicas() -> None:
    options = deploy(autoscale={"min": 2, "max": 4})
    assert options.replicas == 2
    assert options_of(msgspec.to_builtins(options)) == options


def test_an_update_keeps_or_changes_them() -> None:
    before = deploy(placement="pack", resources={"cpu": 1}, autoscale={"min": 2, "max": 4})
    assert changed(before, update()) == before
    after = changed(before, update(placement="spread", resources={}, autoscale=False, replicas=3))
    assert after == deploy(replicas=3)
    assert changed(before, update(autoscale={"min": 3, "max": 5})).replicas == 3
    assert changed(before, update(replicas=9)).replicas == 4


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "Give replicas"),
        ({"replicas": 2, "autoscale": {"max": 3}}, "either replicas or autoscale"),
        ({"autoscale": True}, r"autoscale must be an object such as .*, or false to turn it off, got true"),
    ],
)
def test_a_request_to_scale_says_what_it_wants(fields: dict[str, Any], problem: str) -> None:
    request = RequestReader(Scale).read(msgspec.json.encode({"name": "w", **fields}), [])
    with pytest.raises(Invalid, match=problem):
        request.message("w")


@pytest.mark.parametrize(
    ("needed", "count", "problems"),
    [
        ({}, 9, []),
        ({"cpu": 4.0, "gpu": 1.0, "memory": "8GiB", "node": "head"}, 1, []),
        ({"cpu": 2.0}, 2, []),
        ({"cpu": 2.0}, 3, ["2 processors for each of 3 processes requested, and node 'head' has 4 processors"]),
        ({"gpu": 2.0}, 1, ["2 GPUs requested, and node 'head' has 1 GPU"]),
        ({"memory": "9GiB"}, 1, ["9.0 GiB of memory requested, and node 'head' has 8.0 GiB of memory"]),
        ({"node": "big"}, 1, ["node 'big' was requested, and the only node is 'head', this machine"]),
    ],
)
def test_what_a_machine_lacks(needed: dict[str, float | str], count: int, problems: list[str]) -> None:
    assert unmet(needed, count, "head", MACHINE) == problems


def test_this_machine_has_processors_and_not_a_thousand_gpus() -> None:
    machine = ThisMachine()
    machine.check(Demand(resources={"cpu": 1.0, "memory": "1MiB", "node": "head"}))
    with pytest.raises(CannotBeMet, match=r"^resources can't be met: 1000 GPUs requested, and node 'head' has .* GPU"):
        machine.check(Demand(resources={"gpu": 1000.0}))


@pytest.mark.parametrize(("visible", "count"), [(None, 2), ("", 0), ("0", 1), ("0,1", 2), ("0,1,2", 2)])
def test_gpus_are_those_that_processes_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus(tmp_path) == count


@pytest.mark.parametrize(
    ("has", "needed", "missing"),
    [
        ({}, {}, []),
        ({"gpu": 1.0, "node": "big"}, {"gpu": 1.0, "node": "big"}, []),
        ({"memory": "4GiB"}, {"memory": "2GiB"}, []),
        ({}, {"gpu": 1.0}, ["1 GPU requested, and the workspace has 0 GPUs"]),
        ({}, {"memory": "2GiB"}, ["2.0 GiB of memory requested, and the workspace has 0 MiB of memory"]),
        ({}, {"node": "big"}, ["node 'big' is not that of the workspace (any)"]),
        ({"node": "small"}, {"node": "big"}, ["node 'big' is not that of the workspace (small)"]),
    ],
)  # fmt: skip
def test_a_job_needs_no_more_than_its_workspace_has(
    has: dict[str, float | str], needed: dict[str, float | str], missing: list[str]
) -> None:
    assert covers(has, needed) == missing


def test_limits_of_replicas() -> None:
    limits = Autoscale(min=2, max=4, target_queue=10)
    assert [limits.within(each) for each in (1, 3, 9)] == [2, 3, 4]
    assert [limits.replicas_for(each) for each in (0, 20, 20.1, 30, 99)] == [2, 2, 3, 3, 4]


@pytest.mark.parametrize(
    ("fields", "remarks"),
    [
        ({}, []),
        ({"replicas": 2}, ["each of its 2 processes has a state of its own"]),
        (
            {"autoscale": {"max": 3}},
            ["each of its up to 3 processes has a state of its own, which ends with it (autoscale)"],
        ),
        ({"autoscale": {"max": 3}, "stateless": True}, []),
    ],
)
def test_users_of_a_stateful_model_know_that_its_processes_differ(fields: dict[str, Any], remarks: list[str]) -> None:
    deployment = Deployment(
        id=1, path="/m", weights=None, device="/cpu:0", options=deploy(**fields), version=1, format="", signatures={},
        is_stateful=True,
    )  # fmt: skip
    assert deployment.remarks == remarks
