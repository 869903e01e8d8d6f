"""`tfserve token`: through the API of the running server, or in its database if it does not run."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
import msgspec

from tfserve.access import durations, local_token
from tfserve.config import Settings
from tfserve.errors import TFserveError, Unavailable
from tfserve.ipc.messages import CreateToken, NewToken, TokenInfo
from tfserve.supervisor.lock import DataFolderLock, holder

T = TypeVar("T")

COLUMNS = ("name", "scopes", "workspaces", "state", "expires_at", "last_used_at")
TIMEOUT_S = 10.0


class NotReached(Unavailable):
    """The server on {data_dir} does not respond at {address}: {cause}"""


class OtherUser(Unavailable):
    """The server on {data_dir} runs as another user, or has just started. Run this command as its user, or send a \
token with the scope admin to POST /tokens/."""


def create(
    settings: Settings, name: str, scopes: Sequence[str], workspaces: list[str] | None, expires: str | None
) -> None:
    """Prints the token. Only the token goes to standard output, so that a script can keep it."""
    expires_s = None if expires is None else durations.seconds(expires, "expires")
    request = CreateToken(
        name=name, scopes=[*scopes], workspaces=workspaces, expires_s=expires_s, created_by=local_token.LOCAL
    )
    fields = {"name": name, "scopes": scopes, "workspaces": workspaces, "expires": expires}

    def in_database() -> NewToken:
        from tfserve.db import tokens

        return tokens.create(request)

    _print_secret(_run(settings, "POST", "/tokens/", fields, NewToken, in_database))


def rotate(settings: Settings, name: str, grace: str) -> None:
    grace_s = 0 if grace == "0s" else durations.seconds(grace, "grace")

    def in_database() -> NewToken:
        from tfserve.db import tokens

        return tokens.rotate(name, grace_s)

    _print_secret(_run(settings, "POST", f"/tokens/{name}/rotate", {"grace": grace}, NewToken, in_database))


def revoke(settings: Settings, name: str) -> None:
    def in_database() -> TokenInfo:
        from tfserve.db import tokens

        return tokens.revoke(name)

    _run(settings, "POST", f"/tokens/{name}/revoke", {}, TokenInfo, in_database)
    print(f"{name} is revoked")


def show(settings: Settings) -> None:
    """Prints a table of all tokens."""

    def in_database() -> list[TokenInfo]:
        from tfserve.db import tokens

        return tokens.listing()

    found = _run(settings, "GET", "/tokens/", None, list[TokenInfo], in_database)
    rows = [COLUMNS, *([_cell(getattr(each, column)) for column in COLUMNS] for each in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def link(settings: Settings) -> None:
    """Prints a link that sets the password of the pages. The code is in the server's memory, so it must run."""

    def in_database() -> str:
        raise Unavailable("The server does not run. It prints a link at its start, unless a password was set before.")

    path = _run(settings, "POST", "/password_link/", {}, str, in_database)
    print(f"{holder(settings.data_path).address}{path}")


def _print_secret(made: NewToken) -> None:
    print(made.token)
    info = made.info
    where = ", ".join(info.workspaces) if info.workspaces else "all workspaces"
    until = f"until {info.expires_at}" if info.expires_at else "without an end"
    print(f"{info.name}: {', '.join(info.scopes)} in {where}, {until}. It is not shown again.", file=sys.stderr)


def _cell(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value or "-")


def _run(
    settings: Settings, method: str, path: str, fields: dict[str, Any] | None, result: Any, in_database: Callable[[], T]
) -> T:
    """Raises `TFserveError`."""
    server = holder(settings.data_path)
    if server.is_alive:
        converted: T = msgspec.convert(_ask(settings, server.address, method, path, fields), result)
        return converted
    lock = DataFolderLock(settings.data_path)
    try:
        return _with_database(settings, in_database)
    finally:
        lock.release()


def _ask(settings: Settings, address: str, method: str, path: str, fields: dict[str, Any] | None) -> Any:
    secret = local_token.read(settings.data_path)
    if secret is None or not address:
        raise OtherUser(data_dir=settings.data_dir)
    try:
        # The address is one of this machine, and its certificate seldom names 127.0.0.1.
        client = httpx.Client(base_url=address, headers={"X-API-Key": secret}, verify=False, trust_env=False)  # noqa: S501
        with client:
            response = client.request(method, path, json=fields, timeout=TIMEOUT_S)
        content = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise NotReached(data_dir=settings.data_dir, address=address, cause=str(error)) from None
    if not content["request_result"]:
        raise TFserveError(content["result"])
    return content["result"]


def _with_database(settings: Settings, action: Callable[[], T]) -> T:
    from tfserve.supervisor.main import open_database

    database = open_database(settings, f"cli:{os.getpid()}:{secrets.token_hex(4)}")
    database.adopt()
    return action()
