"""Which server a command talks to, with which token, and in which form it prints.

The options are accepted before and after the command. Nothing is connected before a command needs it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from tfserve import __version__

if TYPE_CHECKING:
    from tfserve_client import Client

F = TypeVar("F", bound=Callable[..., Any])

URL, TOKEN, CA_FILE = "TFSERVE_URL", "TFSERVE_TOKEN", "TFSERVE_CA_FILE"
CLIENT_CERT, CLIENT_KEY = "TFSERVE_CLIENT_CERT", "TFSERVE_CLIENT_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
NO_SERVER = 3
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class Target:
    """What the global options say."""

    server: str | None = None
    """The value of --server, None if it was not given."""
    token: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    as_json: bool = False
    local_data: Path = field(default_factory=lambda: Path(os.environ.get("TFSERVE_DATA_DIR", ".tfserve")))

    @property
    def url(self) -> str:
        url = self.server or os.environ.get(URL) or DEFAULT_URL
        return (url if "://" in url else f"http://{url}").rstrip("/")

    @property
    def is_named(self) -> bool:
        """Whether an option or the environment names the server."""
        return bool(self.server or os.environ.get(URL))

    @property
    def is_on_this_machine(self) -> bool:
        return _split(self.url)[0] in LOOPBACK

    @property
    def certificate(self) -> tuple[str, str] | None:
        """The files of the client's certificate and its key, which may be one file. None without a certificate."""
        certificate = self.client_cert or os.environ.get(CLIENT_CERT)
        key = self.client_key or os.environ.get(CLIENT_KEY)
        return (certificate, key or certificate) if certificate else None

    def client(self) -> Client:
        """A client. If the server is that of the local data folder, with its local token."""
        from tfserve_client import Client, Invalid, Retries

        token, verify = self.token or os.environ.get(TOKEN), True
        if token is None and (token := self._local_token()) is not None:
            verify = False  # a certificate seldom names 127.0.0.1
        ca_file = self.ca_file or os.environ.get(CA_FILE) or None
        try:
            return Client(
                self.url, token=token or "", ca_file=ca_file, certificate=self.certificate, verify=verify,
                retries=Retries(connecting=0),
            )  # fmt: skip
        except Invalid as error:
            raise click.UsageError(error.message) from None

    def _local_token(self) -> str | None:
        if not self.is_on_this_machine or not self.local_data.is_dir():
            return None
        from tfserve.access import local_token
        from tfserve.supervisor.lock import holder

        found = holder(self.local_data)
        is_same = found.is_alive and self.has_port_of(found.address)
        return local_token.read(self.local_data) if is_same else None

    def has_port_of(self, address: str) -> bool:
        return _split(address)[1] == _split(self.url)[1]


def _split(url: str) -> tuple[str | None, int | None]:
    """Host and port; None for what is not a URL, which the client reports."""
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port
    except ValueError:
        return None, None


def global_options(command: F) -> F:
    """The options that every command understands, and `--version`."""
    return click.version_option(__version__, message="%(version)s", help="Print the version.")(target_options(command))


def target_options(command: F) -> F:
    """Adds the options of `Target`. Given after the command, they take precedence."""
    for name, metavar, help_text in (
        ("client_key", "FILE", f"Its private key, if that is another file.  [default: {CLIENT_KEY}]"),
        ("client_cert", "FILE", f"Certificate to present to the server.  [default: {CLIENT_CERT}]"),
        ("ca_file", "FILE", f"CA or self-signed certificate of the server.  [default: {CA_FILE}]"),
        ("token", "TOKEN", f"Access token.  [default: {TOKEN}, or the local token of this machine]"),
        ("server", "URL", f"Address of the server.  [default: {URL}, or {DEFAULT_URL}]"),
    ):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, metavar=metavar, help=help_text, expose_value=False, callback=_keep)(command)
    help_text = "Print JSON."
    return click.option("--json", "as_json", is_flag=True, help=help_text, expose_value=False, callback=_keep)(command)


def _keep(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    target = ctx.ensure_object(Target)
    if value and option.name is not None:
        setattr(target, option.name, value)


def remote(function: F) -> F:
    """Makes a command of a function that gets the target first. Errors of the server become a sentence."""

    @target_options
    @click.pass_obj
    @functools.wraps(function)
    def command(target: Target, *arguments: Any, **options: Any) -> Any:
        return reported(target, lambda: function(target, *arguments, **options))

    return command  # type: ignore[return-value]


def reported(target: Target, work: Callable[[], Any]) -> Any:
    """The exit code of a command. Prints the errors that it may raise."""
    from tfserve_client import TFserveError, Unauthenticated, Unreachable

    try:
        return work()
    except Unreachable as error:
        complain(error.message if error.is_explained else f"{error.message}\n{how_to_start(target)}")
        return NO_SERVER
    except Unauthenticated as error:
        complain(f"{error.message} Commands send that of --token or {TOKEN}.")
    except TFserveError as error:
        complain(f"{error.message}{f' (field: {error.field})' if error.field else ''}")
    except BrokenPipeError:
        ignore_output()
        return 0
    except OSError as error:
        complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    return 1


def ignore_output() -> None:
    """Discards what is still printed, after its reader has ended, such as `head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    print(f"tfserve: {message}", file=sys.stderr)


def how_to_start(target: Target) -> str:
    if target.is_on_this_machine:
        return "Start a server with `tfserve serve` or `tfserve start`, or name another one with --server URL."
    return f"Check the address, or name another server with --server URL or {URL}."
