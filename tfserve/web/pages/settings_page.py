"""The settings: their values and where these come from, and a link to change the password."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseRedirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from tfserve import config
from tfserve.config import Settings
from tfserve.ipc.messages import CreatePasswordLink
from tfserve.setting_sources import sources
from tfserve.web.pages.rendering import page, supervisor_of
from tfserve.web.pages.templatetags.units import size

CREDENTIALS = re.compile(r"(?<=//)\S*@")
"""User name and password in a URL, whose password may have an @."""
PASSWORD = re.compile(r"(?<=[?&])((?:ssl)?password=)[^&\s]*", re.IGNORECASE)
"""A password among the options of a PostgreSQL URL."""
GROUPS = {
    "Connections": ("host", "port", "training_port", "v1_port", "grpc_port", "web_processes", "allowed_hosts",
                    "allowed_origins", "trusted_proxies", "callback_url", "auth", "allow_unauthenticated"),
    "Limits": ("max_", "token_", "train_workers", "keep_", "upload_", "workspace_", "predict_timeout_s"),
    "Encryption": ("tls_",),
}  # fmt: skip
"""Headings with names, and beginnings of names, of settings. Settings of no group are in the last one."""
OTHERS = "Data and models"
CHANGED = "Set by the operator"


class SettingRow(NamedTuple):
    """A setting as the page shows it."""

    name: str
    value: str
    source: str
    """Where the operator has set it; empty for a default."""
    help: str


@csrf_exempt
@require_safe
async def configuration(request: ASGIRequest) -> HttpResponse:
    """Every setting with its present value. Passwords are left out."""
    groups: dict[str, list[SettingRow]] = {heading: [] for heading in (CHANGED, *GROUPS, OTHERS)}
    for row in rows(config.load(), sources()):
        groups[CHANGED if row.source else _group(row.name)].append(row)
    return await page(request, "pages/settings/configuration.html", {"groups": groups, "section": "settings"})


@require_POST
async def new_password(request: ASGIRequest) -> HttpResponse:
    """Opens the page that sets the password, with a code that works once."""
    path: str = await supervisor_of(request).ask(CreatePasswordLink())
    return HttpResponseRedirect(path)


def rows(settings: Settings, sources: Mapping[str, str]) -> list[SettingRow]:
    """One row for each setting."""
    return [
        SettingRow(
            each.name,
            _shown(each.name, getattr(settings, each.name)),
            sources.get(each.name, ""),
            each.metadata["help"],
        )
        for each in dataclasses.fields(Settings)
    ]


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int) and name.endswith(("_bytes", "_in_flight")):
        return size(value)
    if isinstance(value, float) and name.endswith("_s"):
        return f"{value:g} s"
    return PASSWORD.sub(r"\1…", CREDENTIALS.sub("…@", str(value)))


def _group(name: str) -> str:
    for heading, beginnings in GROUPS.items():
        if any(name == each or (each.endswith("_") and name.startswith(each)) for each in beginnings):
            return heading
    return OTHERS
