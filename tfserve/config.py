"""Every setting, once: name, type, default, help.

A value comes from the command line (`--max-queue 50`), else from the environment (`TFSERVE_MAX_QUEUE=50`), else it
is the default. `docs/settings.md` is checked against this list by a test.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tfserve.errors import Invalid

#: stands for a file
STANDARD_OUTPUT = "-"
MIB = 1024 * 1024
MAX_PORT = 65535
#: in the environment of web processes: a database file that was deleted is not made again, empty
DATABASE_MUST_EXIST = "TFSERVE_DATABASE_MUST_EXIST"


def setting(default: Any, help_text: str, *, flag: bool = True) -> Any:
    return field(default=default, metadata={"help": help_text, "flag": flag})


@dataclass(frozen=True)
class Settings:
    """How this server is set up. Sizes are bytes, times are seconds."""

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8000, "port of the pages and the APIs; 0 takes a free one")
    data_dir: str = setting(".tfserve", "folder for everything that must last: database, workspaces, outputs, logs")
    roots: str = setting("", "folders that callers may name files in, as in PATH (default: start folder, data folder)")
    database_url: str = setting("", "PostgreSQL address; SQLite in the data folder when empty", flag=False)
    allow_unauthenticated: bool = setting(False, "listen on other addresses than loopback without any log-in")
    allowed_hosts: str = setting("", "further host names that requests may come to, separated by commas")

    web_processes: int = setting(1, "processes that speak HTTP")
    warm_spare: bool = setting(True, "keep one process with TensorFlow loaded, ready to be used")
    max_workspaces: int = setting(200, "more are refused with 429")
    max_queue: int = setting(10_000, "waiting jobs in a workspace; more are refused with 503")
    max_queue_bytes: int = setting(256 * MIB, "size of the requests waiting in a workspace; more are refused with 503")
    train_workers: int = setting(1, "training tasks that run at a time")
    train_nice: int = setting(5, "how far trainings give way to all else on the machine, 0 (not at all) to 19")
    max_tasks: int = setting(100, "training tasks that wait or run; more are refused with 429")
    training_port: int = setting(0, "a second port for training calls, as older clients expect (2333); 0 opens none")
    v1_port: int = setting(0, "a second port for TensorFlow Serving's clients, as they expect it (8501); 0 opens none")
    grpc_port: int = setting(0, "port of the gRPC APIs (v2 and TensorFlow Serving's); 0 opens none")
    callback_url: str = setting("", "where the JSON of a training task is posted whenever its state changes")
    keep_jobs: int = setting(10_000, "finished jobs kept in a workspace")
    keep_days: int = setting(30, "days of the server's running time that finished jobs are kept")
    max_output_bytes: int = setting(64 * MIB, "output kept of a job; the rest is dropped, with a marker")
    cancel_grace_s: float = setting(5.0, "time that a cancelled script has to end before its processes are killed")
    drain_s: float = setting(10.0, "time that running jobs have to end when the server stops")

    convert: bool = setting(True, "look for a faster runtime for models that are deployed with runtime auto")
    predict_timeout_s: float = setting(60.0, "time that a prediction may take, its wait included")
    max_predictions: int = setting(1000, "predictions that wait or run for a model in a web process; more get 503")

    max_body_bytes: int = setting(64 * MIB, "largest request body, after decompression; more is refused with 413")
    max_response_bytes: int = setting(64 * MIB, "largest result or variable; more is refused with 413")
    header_timeout_s: float = setting(15.0, "time that the head of a request may take to arrive")
    body_timeout_s: float = setting(30.0, "time that a request body may take to arrive, and one more for every MiB")
    keep_alive_s: float = setting(75.0, "time that an idle connection is kept open")
    max_requests: int = setting(2000, "requests in progress in a web process; more are answered 503")

    access_log: str = setting("", "file for a line of JSON about every request; - is standard output, empty is off")

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir).resolve()

    @property
    def root_paths(self) -> list[Path]:
        """The folders that callers may name files in, resolved."""
        return self.configured_roots or [Path.cwd().resolve(), self.data_path]

    @property
    def configured_roots(self) -> list[Path]:
        """The roots that were given; every process of a server gets them. Empty in a process without a server."""
        return [Path(root).resolve() for root in self.roots.split(os.pathsep) if root]

    @property
    def access_log_path(self) -> Path | None:
        """Where the access log is, if it is a file."""
        return Path(self.access_log).absolute() if self.access_log not in ("", STANDARD_OUTPUT) else None

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def load(values: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the given values, then the environment, then the defaults. Raises `Invalid`."""
    given = {name: value for name, value in (values or {}).items() if value is not None}
    for each in dataclasses.fields(Settings):
        raw = environ.get(environment_name(each.name))
        if each.name not in given and raw is not None:
            given[each.name] = _parse(each, raw)
    settings = Settings(**given)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """Raises `Invalid` for what would only be noticed when it is used."""
    for each in dataclasses.fields(Settings):
        value = getattr(settings, each.name)
        if each.name.endswith("port") and not 0 <= value <= MAX_PORT:
            raise Invalid(f"{each.name} must be from 0 to {MAX_PORT}, {value} was given")
    if settings.database_url and not settings.database_url.startswith(("postgres://", "postgresql://")):
        raise Invalid("database_url must be an address such as postgresql://user:password@host:5432/name")
    if settings.callback_url and not _is_web_address(settings.callback_url):
        raise Invalid(
            f"callback_url must be an address such as http://127.0.0.1:8080/hook, {settings.callback_url!r} was given"
        )


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:  # a port that is no number, a bracket too many
        return False


def environment_name(name: str) -> str:
    return f"TFSERVE_{name.upper()}"


def to_environment(settings: Settings) -> dict[str, str]:
    """The environment in which `load` gives these settings again: how child processes learn them."""
    return {environment_name(each.name): str(getattr(settings, each.name)) for each in dataclasses.fields(settings)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each setting, and `[addr:]port` in front as Django's runserver takes it."""
    parser.add_argument("address", nargs="?", metavar="[addr:]port", help="where to listen (default: 127.0.0.1:8000)")
    for each in dataclasses.fields(Settings):
        if each.metadata["flag"]:
            _add_argument(parser, each)


def from_arguments(argv: Sequence[str], prog: str) -> Settings:
    """Settings from a command line. Exits with a usage message when it is wrong, as command lines do."""
    parser = argparse.ArgumentParser(prog=prog, description="Start the server: supervisor, web and a warm spare.")
    add_arguments(parser)
    values = vars(parser.parse_args(argv))
    address = values.pop("address")
    try:
        if address:
            values.update(parse_address(address))
        return load(values)
    except Invalid as error:
        parser.error(error.message)


def parse_address(address: str) -> dict[str, Any]:
    """`8001`, `127.0.0.1:8001`, `[::1]:8001` → host and port. Raises `Invalid`."""
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise Invalid(f"[addr:]port was expected, for example 127.0.0.1:8000; {address!r} was given")
    return {"port": int(port), **({"host": host.strip("[]")} if host else {})}


def _add_argument(parser: argparse.ArgumentParser, each: dataclasses.Field[Any]) -> None:
    name = "--" + each.name.replace("_", "-")
    if isinstance(each.default, bool):
        parser.add_argument(
            name, action=argparse.BooleanOptionalAction, default=None, help=f"{each.metadata['help']} ({each.default})"
        )
    else:
        parser.add_argument(
            name, type=type(each.default), metavar="N" if each.default else "", default=None,
            help=f"{each.metadata['help']} ({each.default!r})",
        )  # fmt: skip


def _parse(each: dataclasses.Field[Any], raw: str) -> Any:
    kind: type = type(each.default)
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}[
                raw.lower()
            ]
        return kind(raw)
    except (ValueError, KeyError) as error:
        name = environment_name(each.name)
        raise Invalid(f"{name} must be {kind.__name__}, {raw!r} was given") from error
