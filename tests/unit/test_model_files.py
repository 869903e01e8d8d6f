"""What the supervisor finds out about a model's files before it uses a process for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tfserve.ipc.messages import ModelOptions
from tfserve.models.links import LinkRefused
from tfserve.supervisor import model_files


def test_a_link_that_leads_out_of_the_roots_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "root" / "model"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    monkeypatch.setenv("TFSERVE_ROOTS", str(tmp_path / "root"))
    monkeypatch.setenv("TFSERVE_DATA_DIR", str(tmp_path / "data"))
    assert asyncio.run(model_files.locate(str(model), None, ModelOptions())).path == model
    (model / "variables" / "variables.index").symlink_to(tmp_path / "secret")
    with pytest.raises(LinkRefused, match="outside the folders"):
        asyncio.run(model_files.locate(str(model), None, ModelOptions()))
