"""A fixture: models that take image files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.made import made_by


@pytest.fixture(scope="package")
def image_models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `labels`, `masks` and `boxes`, below the roots of the shared server."""
    return made_by(Path(__file__).with_name("make_models.py"), tmp_path_factory, into=server.roots / "image models")
