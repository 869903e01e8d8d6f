"""Django for the modules that have tables, and what the tests of jobs and trainings run on."""

from __future__ import annotations

import atexit
import shutil
import tempfile

import django
import pytest


def _set_up_django() -> None:
    """Before the test modules import models. Each test has a database of its own; this folder holds none."""
    folder = tempfile.mkdtemp(prefix="tfserve-django-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TFSERVE_DATA_DIR", folder)
        environment.setenv("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
        django.setup()
        from django.conf import settings

        assert settings.configured  # they are read here, while the environment is ours


_set_up_django()
