"""`tfserve token`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tfserve.access.principals import ASSIGNABLE
from tfserve.cli.groups import CommandGroup
from tfserve.cli.target import Target, complain, reported, target_options
from tfserve.config import load
from tfserve.errors import TFserveError

if TYPE_CHECKING:
    from tfserve.cli.tokens import TokenStore


@click.group(cls=CommandGroup)
@target_options
def token() -> None:
    """Create, list, rotate and revoke access tokens.

    They are those of the local server, also while it does not run, or of the one that --server or TFSERVE_URL names.
    """


def _action(function: Callable[..., None]) -> click.Command:
    """A command whose function gets the store of the tokens first."""

    def command(data_dir: str | None, **given: Any) -> int:
        target = click.get_current_context().ensure_object(Target)
        code: int = reported(target, lambda: _act(function, target, data_dir, given))
        return code

    option = click.option("--data-dir", metavar="FOLDER", help="the data folder of the server (.tfserve)")
    parameters = getattr(function, "__click_params__", [])
    command = option(target_options(command))
    command.__click_params__ += parameters  # type: ignore[attr-defined]
    return token.command(function.__name__.strip("_"), help=function.__doc__)(command)


def _act(function: Callable[..., None], target: Target, data_dir: str | None, given: dict[str, Any]) -> int:
    from tfserve.cli.tokens import TokenStore

    try:
        function(TokenStore(load({"data_dir": data_dir}), target, data_dir is not None), **given)
    except TFserveError as error:
        complain(error.message)
        return 1
    return 0


NAME = click.argument("name")


@_action
@NAME
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice([str(each) for each in ASSIGNABLE]),
    help="what it allows; repeatable. submit includes predict, admin includes everything",
)  # fmt: skip
@click.option(
    "--workspace", "workspaces", multiple=True, metavar="NAME",
    help="a workspace that it can use; repeatable (default: all)",
)  # fmt: skip
@click.option("--expires", metavar="DURATION", help="how long it is valid, such as 90d (default: no end)")
def create(
    store: TokenStore, name: str, scopes: tuple[str, ...], workspaces: tuple[str, ...], expires: str | None
) -> None:
    """Create a token and print it. It is not shown again."""
    from tfserve.cli import tokens

    tokens.create(store, name, scopes, [*workspaces] or None, expires)


@_action
def list_(store: TokenStore) -> None:
    """List the tokens."""
    from tfserve.cli import tokens

    tokens.show(store)


@_action
@NAME
def revoke(store: TokenStore, name: str) -> None:
    """Revoke a token at once."""
    from tfserve.cli import tokens

    tokens.revoke(store, name)


@_action
@NAME
@click.option(
    "--grace", default="24h", metavar="DURATION", help="how long the old secret stays valid, 0s: not at all (24h)"
)
def rotate(store: TokenStore, name: str, grace: str) -> None:
    """Give a token a new secret and print it."""
    from tfserve.cli import tokens

    tokens.rotate(store, name, grace)


@_action
def link(store: TokenStore) -> None:
    """Print a link that sets the password of the pages."""
    from tfserve.cli import tokens

    tokens.link(store)


COMMANDS = {"token": token}
