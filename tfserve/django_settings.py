"""Django's settings, all derived from `tfserve.config`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import dj_database_url

from tfserve.config import DATABASE_MUST_EXIST, load

SERVER = load()


def _secret_key(path: Path) -> str:
    """A key of this data folder's own, made at first use."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    if not path.stat().st_size:  # a new one, or one that a full disk has left empty
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text()


SECRET_KEY = _secret_key(SERVER.data_path / "secret_key")
DEBUG = False
# The guard in front of all routes (tfserve.http.guard) has the list of hosts; here it would stand a second time.
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tfserve.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "django_htmx",
    "tfserve.control",
    "tfserve.dashboard",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "tfserve.dashboard.csp.content_security_policy",
    "tfserve.dashboard.outages.Outages",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "/static/"

# A transaction of ours takes SQLite's write lock when it begins (IMMEDIATE), so it never fails half-way; FULL makes
# every commit reach the disk before anybody is told.
FILE = SERVER.data_path / "tfserve.sqlite3"
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": f"file:{quote(str(FILE))}?mode=rw" if os.environ.get(DATABASE_MUST_EXIST) else str(FILE),
    "OPTIONS": {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    },
}
# Nobody waits for minutes when PostgreSQL's host is gone.
PATIENCE = {"connect_timeout": 5, "keepalives_idle": 20, "tcp_user_timeout": 20_000}


def _postgresql(url: str) -> dict[str, Any]:
    settings = dict(dj_database_url.parse(url))
    return {**settings, "OPTIONS": {**PATIENCE, **cast(dict[str, Any], settings.get("OPTIONS", {}))}}


DATABASES = {"default": {**(_postgresql(SERVER.database_url) if SERVER.database_url else SQLITE), "CONN_MAX_AGE": None}}

LOGGING_CONFIG = None
