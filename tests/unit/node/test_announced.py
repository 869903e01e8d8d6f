"""What a node makes of the announcements of a head that comes back."""

from __future__ import annotations

import pytest

from tfserve.ipc.messages import ModelVersion
from tfserve.node.announced import AnnouncedModels

SERVING = ModelVersion(id=1, version=1, state="active", addresses=["tls://10.0.0.3:4000/n1/a"])
LOADING = ModelVersion(id=1, version=1, state="loading")
ADOPTED = ModelVersion(id=1, version=1, state="active", addresses=["tls://10.0.0.3:4000/n1/a"], remarks=["adopted"])
FAILED = ModelVersion(id=1, version=1, state="failed", reason="no node is left")


@pytest.fixture
def known() -> AnnouncedModels:
    models = AnnouncedModels()
    assert list(models.begin({"m": [SERVING], "other": [LOADING]})) == [("m", [SERVING]), ("other", [LOADING])]
    return models


def test_only_what_has_changed_is_passed_on(known: AnnouncedModels) -> None:
    assert list(known.begin({"m": [SERVING], "other": [FAILED]})) == [("other", [FAILED])]


def test_a_model_serves_on_until_the_new_head_has_found_its_processes(known: AnnouncedModels) -> None:
    assert list(known.begin({"m": [LOADING], "other": [LOADING]})) == []
    assert known.models["m"] == [SERVING]
    assert known.change("m", [LOADING]) is None
    assert known.change("m", [ADOPTED]) == [ADOPTED]
    assert known.change("m", [LOADING]) == [LOADING]


@pytest.mark.parametrize("versions", [[FAILED], []])
def test_a_model_that_the_new_head_gives_up_is_given_up(known: AnnouncedModels, versions: list[ModelVersion]) -> None:
    assert list(known.begin({"m": [LOADING]})) == [("other", [])]
    assert known.change("m", versions) == versions
    assert known.models == ({"m": versions} if versions else {})


def test_a_model_that_the_new_head_does_not_know_is_gone(known: AnnouncedModels) -> None:
    assert sorted(known.begin({})) == [("m", []), ("other", [])]
    assert known.deployments == set()
