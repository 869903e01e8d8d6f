"""What several unit tests need."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def django_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Django, for tests that import what needs it. Only the first set-up of a process counts."""
    import django

    monkeypatch.setenv("TFSERVE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
    django.setup()
