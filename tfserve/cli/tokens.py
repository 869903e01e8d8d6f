"""`tfserve token`: through the API of a server, or in the database of the local one if it does not run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tfserve.access import durations, local_token
from tfserve.cli.display import note, show_done, show_json, show_table
from tfserve.cli.target import Target
from tfserve.config import Settings
from tfserve.errors import Unavailable
from tfserve.ipc.messages import CreateToken, NewToken, TokenInfo
from tfserve.supervisor.lock import DataFolderLock, holder
from tfserve_client import Client, Unreachable

T = TypeVar("T")

COLUMNS = ("name", "scopes", "workspaces", "state", "expires_at", "last_used_at")
TIMEOUT_S = 10.0


class NotReached(Unavailable):
    """The server on {data_dir} does not respond at {address}: {cause}"""


class OtherUser(Unavailable):
    """The server on {data_dir} runs as another user, or has just started. Run this command as its user, or send a \
token with the scope admin to POST /tokens/."""


@dataclass(frozen=True)
class TokenStore:
    """Where the tokens are: on the server that is named, or on the local one with these settings."""

    settings: Settings
    target: Target
    has_folder: bool = False
    """Whether --data-dir names the local data folder."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the options or the environment name another server than that of the local data folder."""
        if self.has_folder:
            return self.target.server is not None and (self.target.token is not None or not self._is_local())
        if self.target.server is not None:
            return True
        return self.target.token is not None or (self.target.is_named and not self._is_local())

    def _is_local(self) -> bool:
        server = holder(self.settings.data_path)
        return self.target.is_on_this_machine and server.is_alive and self.target.has_port_of(server.address)


def create(
    store: TokenStore, name: str, scopes: Sequence[str], workspaces: list[str] | None, expires: str | None
) -> None:
    """Prints the token. Only the token goes to standard output, so that a script can keep it."""
    expires_s = None if expires is None else durations.seconds(expires, "expires")
    request = CreateToken(
        name=name, scopes=[*scopes], workspaces=workspaces, expires_s=expires_s, created_by=local_token.LOCAL
    )

    def in_database() -> NewToken:
        from tfserve.db import tokens

        return tokens.create(request)

    def ask(client: Client) -> Any:
        return client.create_token(name, scopes, workspaces=workspaces, expires=expires)

    _print_secret(store, _run(store, ask, NewToken, in_database))


def rotate(store: TokenStore, name: str, grace: str) -> None:
    grace_s = 0 if grace == "0s" else durations.seconds(grace, "grace")

    def in_database() -> NewToken:
        from tfserve.db import tokens

        return tokens.rotate(name, grace_s)

    _print_secret(store, _run(store, lambda client: client.rotate_token(name, grace=grace), NewToken, in_database))


def revoke(store: TokenStore, name: str) -> None:
    def in_database() -> TokenInfo:
        from tfserve.db import tokens

        return tokens.revoke(name)

    _run(store, lambda client: client.revoke_token(name), TokenInfo, in_database)
    show_done(store.target.as_json, f"{name} is revoked", revoked=name)


def show(store: TokenStore) -> None:
    """Prints a table of all tokens."""

    def in_database() -> list[TokenInfo]:
        from tfserve.db import tokens

        return tokens.listing()

    found = _run(store, lambda client: client.list_tokens(), list[TokenInfo], in_database)
    if store.target.as_json:
        show_json([msgspec.to_builtins(each) for each in found])
    else:
        show_table(COLUMNS, [[getattr(each, column) for column in COLUMNS] for each in found])


def link(store: TokenStore) -> None:
    """Prints a link that sets the password of the pages. The code is in the server's memory, so it must run."""

    def in_database() -> str:
        raise Unavailable("The server does not run. It prints a link at its start, unless a password was set before.")

    path = _run(store, lambda client: client.make_password_link(), str, in_database)
    address = store.target.url if store.is_elsewhere else holder(store.settings.data_path).address
    show_done(store.target.as_json, f"{address}{path}", link=f"{address}{path}")


def _print_secret(store: TokenStore, made: NewToken) -> None:
    if store.target.as_json:
        show_json(msgspec.to_builtins(made))
        return
    print(made.token)
    info = made.info
    where = ", ".join(info.workspaces) if info.workspaces else "all workspaces"
    until = f"until {info.expires_at}" if info.expires_at else "without an end"
    note(f"{info.name}: {', '.join(info.scopes)} in {where}, {until}. It is not shown again.")


def _run(store: TokenStore, ask: Callable[[Client], Any], result: Any, in_database: Callable[[], T]) -> T:
    """Raises the `TFserveError` of the server or of the client."""
    if store.is_elsewhere:
        with store.target.client() as client:
            remote: T = msgspec.convert(ask(client), result)
            return remote
    settings = store.settings
    server = holder(settings.data_path)
    if server.is_alive:
        local: T = msgspec.convert(_ask(store, server.address, ask), result)
        return local
    lock = DataFolderLock(settings.data_path)
    try:
        return _with_database(settings, in_database)
    finally:
        lock.release()


def _ask(store: TokenStore, address: str, ask: Callable[[Client], Any]) -> Any:
    settings, certificate = store.settings, store.target.certificate
    secret = local_token.read(settings.data_path)
    if secret is None or not address:
        raise OtherUser(data_dir=settings.data_dir)
    # The address is one of this machine, and its certificate seldom names 127.0.0.1.
    with Client(address, token=secret, certificate=certificate, verify=False, timeout=TIMEOUT_S, retries=0) as client:
        try:
            return ask(client)
        except Unreachable as error:
            raise NotReached(data_dir=settings.data_dir, address=address, cause=str(error)) from None


def _with_database(settings: Settings, action: Callable[[], T]) -> T:
    from tfserve.supervisor.main import open_database

    database = open_database(settings, f"cli:{os.getpid()}:{secrets.token_hex(4)}")
    database.adopt()
    return action()
