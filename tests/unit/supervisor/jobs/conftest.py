"""Django for the modules that have tables, before the tests that import them are."""

from __future__ import annotations

import atexit
import shutil
import tempfile

import django
import psutil
import pytest
from django.conf import settings

from tfserve.supervisor import processes


def _set_up_django() -> None:
    """Each test has a database of its own; this folder is for what the settings write when they are read."""
    folder = tempfile.mkdtemp(prefix="tfserve-django-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TFSERVE_DATA_DIR", folder)
        environment.setenv("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
        django.setup()
        assert settings.SECRET_KEY


_set_up_django()


@pytest.fixture(autouse=True)
def _other_processes_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor kills children that it has not started when a worker dies; other tests have started some."""
    for child in psutil.Process().children():
        monkeypatch.setitem(processes._ours, child.pid, None)
