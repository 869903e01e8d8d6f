"""Django's settings, all derived from `tfserve.config`."""

from __future__ import annotations

import secrets
from pathlib import Path

import dj_database_url

from tfserve.config import load

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
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "/static/"

# A transaction of ours takes SQLite's write lock when it begins (IMMEDIATE), so it never fails half-way; FULL makes
# every commit reach the disk before anybody is told.
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": SERVER.data_path / "tfserve.sqlite3",
    "OPTIONS": {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    },
}
DATABASES = {
    "default": dj_database_url.parse(SERVER.database_url, conn_max_age=None) if SERVER.database_url else SQLITE
}
DATABASES["default"]["CONN_MAX_AGE"] = None

LOGGING_CONFIG = None
