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
    """The secret key of this data folder, created at first use."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    if not path.stat().st_size:  # new, or left empty by a full disk
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text()


SECRET_KEY = _secret_key(SERVER.data_path / "secret_key")
DEBUG = False
# The guard in front of all routes (tfserve.web.http.guard) checks the Host header.
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tfserve.web.pages.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "django_htmx",
    "drf_spectacular_sidecar",
    "tfserve.db",
    "tfserve.web.pages",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "tfserve.web.pages.middleware.security_headers",
    "tfserve.web.pages.middleware.ErrorPages",
    "tfserve.web.pages.log_in.LogInRequired",
]
# Sessions are in a signed cookie, because only the supervisor writes to the database.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
SESSION_COOKIE_NAME = "tfserve_session"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SERVER.scheme == "https"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_NAME = "tfserve_csrf"
CSRF_FAILURE_VIEW = "tfserve.web.pages.log_in.csrf_failure"
AUTH_USER_MODEL = "control.User"
AUTHENTICATION_BACKENDS = ["tfserve.web.pages.log_in.PasswordBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
SECURE_CONTENT_TYPE_NOSNIFF = False  # every response of the server has this header (tfserve.web.http.server)
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "/static/"

# IMMEDIATE takes SQLite's write lock at the start of a transaction, so it never fails half-way. FULL flushes every
# commit to disk before it is acknowledged.
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
# Fail fast when PostgreSQL's host is unreachable.
PATIENCE = {"connect_timeout": 5, "keepalives_idle": 20, "tcp_user_timeout": 20_000}


def _postgresql(url: str) -> dict[str, Any]:
    settings = dict(dj_database_url.parse(url))
    return {**settings, "OPTIONS": {**PATIENCE, **cast(dict[str, Any], settings.get("OPTIONS", {}))}}


DATABASES = {"default": {**(_postgresql(SERVER.database_url) if SERVER.database_url else SQLITE), "CONN_MAX_AGE": None}}

LOGGING_CONFIG = None
