"""The endpoints of the token API. The secret of a token is in the response that creates it, and nowhere else."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from tfserve.access import durations
from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.ipc import messages
from tfserve.ipc.messages import CreatePasswordLink, ListTokens, NewToken, RevokeToken, TokenInfo
from tfserve.web.access.audit_log import AuditEntry
from tfserve.web.api.endpoint import Context, EndpointTable, Format, Schema, Tag
from tfserve.web.api.json_requests import RequestReader
from tfserve.web.api.tokens import requests
from tfserve.web.api.workspace.names import workspace_name
from tfserve.web.api.workspace.reading import number
from tfserve.web.http.bodies import read_body

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.ADMIN, Tag.ACCESS)

NAME: dict[str, Schema] = {"name": {"type": "string", "description": "name of the token"}}
_ROTATION = RequestReader(requests.RotateToken)


@ENDPOINTS.post(
    "/tokens/",
    requests.CreateToken,
    NewToken,
    summary="create an access token; from the first one on, every request needs a token",
    returns="{token, info}: the token, which is shown only now, and what is known of it",
    needs_body=True,
    example={"name": "camera", "scopes": ["predict"], "workspaces": ["first"], "expires": "90d"},
)
async def create_token(context: Context, request: requests.CreateToken) -> NewToken:
    return await context.line.ask(
        messages.CreateToken(
            name=request.name,
            scopes=request.scopes,
            workspaces=None if request.workspaces is None else [*map(workspace_name, request.workspaces)],
            expires_s=None if request.expires is None else durations.seconds(request.expires, "expires"),
            created_by=PRINCIPAL.get().name,
        )
    )


@ENDPOINTS.get(
    "/tokens/",
    list[TokenInfo],
    summary="list the access tokens",
    returns="the tokens, newest first, without their secrets",
)
async def list_tokens(context: Context, _: Request) -> list[TokenInfo]:
    return await context.line.ask(ListTokens())


@ENDPOINTS.post(
    "/tokens/{name}/rotate",
    requests.RotateToken,
    NewToken,
    summary="give a token a new secret; the old one stays valid for a grace period",
    returns="{token, info}: the new token, which is shown only now",
    parameters=NAME,
    reads_body=True,
    example={"grace": "24h"},
)
async def rotate_token(context: Context, request: Request) -> NewToken:
    body = await read_body(request.scope, request.receive, context.settings)
    grace = _ROTATION.read(body, []).grace
    grace_s = 0 if grace == "0s" else durations.seconds(grace, "grace")
    return await context.line.ask(messages.RotateToken(name=request.path_params["name"], grace_s=grace_s))


@ENDPOINTS.post(
    "/tokens/{name}/revoke",
    result=TokenInfo,
    summary="revoke a token, in all processes before the response",
    returns="the token",
    parameters=NAME,
)
async def revoke_token(context: Context, request: Request) -> TokenInfo:
    return await context.line.ask(RevokeToken(name=request.path_params["name"]))


@ENDPOINTS.get(
    "/audit/",
    list[AuditEntry],
    summary="get the last entries of the audit log: who changed what",
    returns="the entries, newest first",
    parameters={"limit": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100}},
)
async def list_audit_entries(context: Context, request: Request) -> list[AuditEntry]:
    limit = number(request.query_params.get("limit", "100"), "limit", most=10_000)
    return await asyncio.to_thread(context.audit.last, max(limit, 1))


@ENDPOINTS.post(
    "/password_link/",
    result=str,
    summary="make a link that sets the password of the pages' administrator, once, within a day",
    returns="the path of the page",
)
async def create_password_link(context: Context, _: Request) -> str:
    return await context.line.ask(CreatePasswordLink())
