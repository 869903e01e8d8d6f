"""The pages of administrators: tokens, which can be made and changed here, and the audit log."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.views.decorators.http import require_http_methods, require_safe

from tfserve.access import durations
from tfserve.access.principals import ASSIGNABLE, PRINCIPAL
from tfserve.errors import Invalid, TFserveError
from tfserve.ipc.messages import CreateToken, ListTokens, NewToken, RevokeToken, RotateToken, TokenInfo
from tfserve.web.access.audit_log import AuditEntry, AuditLog
from tfserve.web.http.responses import status_of
from tfserve.web.pages.listing import escaped_size, fitting
from tfserve.web.pages.rendering import page

GRACE_S = 24 * 3600.0
ENTRIES, ENTRIES_BYTES = 1000, 40_000
TOKENS_BYTES = 40_000


@require_http_methods(["GET", "HEAD", "POST"])
async def tokens(request: ASGIRequest) -> HttpResponse:
    """The table of tokens with its forms. The secret of a new token is on the response to its form, and only there."""
    made, problem, status = None, "", 200
    if request.method == "POST":
        try:
            made = await _change(request)
        except TFserveError as error:
            problem, status = error.message, status_of(error)
    known = await request.scope["line"].ask(ListTokens())
    context = {
        "tokens": fitting(request.GET, "tokens", known, TOKENS_BYTES, _token_size),
        "scopes": list(ASSIGNABLE),
        "made": made,
        "problem": problem,
        "section": "settings",
    }
    return await page(request, "pages/tokens.html", context, status)


@require_safe
async def audit(request: ASGIRequest) -> HttpResponse:
    """The last entries, newest first."""
    log: AuditLog = request.scope["audit"]
    entries = await asyncio.to_thread(log.last, ENTRIES)
    shown = fitting(request.GET, "entries", entries, ENTRIES_BYTES, _entry_size)
    return await page(request, "pages/audit.html", {"entries": shown, "section": "settings"})


async def _change(request: ASGIRequest) -> NewToken | None:
    """Executes the action of the form, and records it. Returns a new secret, if there is one."""
    form, line = request.POST, request.scope["line"]
    action, name = form.get("action", ""), form.get("name", "").strip()
    log: AuditLog = request.scope["audit"]
    with log.action(f"{action[:20]}_token", {"name": name}):
        if action == "create":
            made: NewToken = await line.ask(_creation(name, form))
            return made
        if action == "rotate":
            rotated: NewToken = await line.ask(RotateToken(name=name, grace_s=GRACE_S))
            return rotated
        if action == "revoke":
            await line.ask(RevokeToken(name=name))
            return None
        raise Invalid(f"action must be create, rotate or revoke, got {action[:40]!r}", field="action")


def _creation(name: str, form: Any) -> CreateToken:
    workspaces = [each.strip() for each in form.get("workspaces", "").split(",") if each.strip()]
    expires = form.get("expires", "").strip()
    return CreateToken(
        name=name,
        scopes=form.getlist("scopes"),
        workspaces=workspaces or None,
        expires_s=durations.seconds(expires, "expires") if expires else None,
        created_by=PRINCIPAL.get().name,
    )


def _token_size(token: TokenInfo) -> int:
    return 1100 + 4 * escaped_size(token.name) + escaped_size(*token.scopes, ", ".join(token.workspaces or [])[:300])


def _entry_size(entry: AuditEntry) -> int:
    resource = sum(5 + escaped_size(name, str(value)[:200]) for name, value in entry.resource.items())
    return 380 + resource + escaped_size(entry.who, (entry.error or "")[:200])
