"""Options and arguments that several commands have: settings, ports, folders, workspaces, scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from tfserve.config import MAX_PORT, Settings, load, parse_address
from tfserve.errors import Invalid

TRAINING_PORT = 2333


# --- numbers


class WholeNumber(click.IntRange):
    """Its error says which numbers are meant also for what is not a number."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        _require(int, value, self, param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        _require(float, value, self, param, ctx)
        return super().convert(value, param, ctx)


def _require(
    convert: Callable[[Any], float], value: Any, expected: WholeNumber | Number, param: click.Parameter | None,
    ctx: click.Context | None,
) -> None:  # fmt: skip
    try:
        convert(value)
    except ValueError:
        which = f"from {expected.min} to {expected.max}" if expected.max is not None else f"of at least {expected.min}"
        expected.fail(f"{value!r} is not a {expected.name}. Expected a {expected.name} {which}.", param, ctx)


# --- the server's settings


def setting_options(leave_out: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Adds an option for each setting."""

    def add(command: Any) -> Any:
        for each in reversed(fields(Settings)):
            if each.metadata["flag"] and each.name not in leave_out:
                command = setting_option(each)(command)
        return command

    return add


def setting_option(each: Field[Any]) -> Callable[[Any], Any]:
    name, help_text = each.name.replace("_", "-"), f"{each.metadata['help']} ({each.default!r})"
    if isinstance(each.default, bool):
        return click.option(f"--{name}/--no-{name}", each.name, default=None, help=help_text)
    metavar = "TEXT" if isinstance(each.default, str) else "N"
    return click.option(f"--{name}", each.name, type=type(each.default), metavar=metavar, help=help_text)


def data_dir_option(command: Any) -> Any:
    """The option `--data-dir`."""
    each = next(each for each in fields(Settings) if each.name == "data_dir")
    return setting_option(each)(command)


def address(command: Any) -> Any:
    """The argument `[addr:]port` of Django's runserver."""
    return click.argument("address", required=False, metavar="[[ADDR:]PORT]")(command)


def settings_of(given: dict[str, Any]) -> Settings:
    """The settings from options and environment. Raises `click.UsageError` for an invalid value."""
    values = {each.name: given[each.name] for each in fields(Settings) if each.name in given}
    try:
        return load(values | (parse_address(given["address"]) if given.get("address") else {}))
    except Invalid as error:
        raise click.UsageError(error.message, click.get_current_context()) from None


class PortNumber(click.ParamType[int]):
    """A port from 1 to 65535."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_PORT):
            self.fail(f"expected a port from 1 to {MAX_PORT}, got {text!r}", param, ctx)
        return int(text)


class Parameter(click.ParamType[tuple[str, str]]):
    """`name=value`."""

    name = "parameter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, separator, text = str(value).partition("=")
        if not separator:
            self.fail(f"expected name=value, got {value!r}", param, ctx)
        return name, text


# --- workspaces and scripts


def workspace_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The workspaces of the server, for the completion of the shell. Empty if it does not respond."""
    from tfserve.cli.target import Target
    from tfserve_client import TFserveError

    try:
        with ctx.ensure_object(Target).client() as client:
            return [name for name in client.get_workspace() if name.startswith(incomplete)]
    except (TFserveError, OSError):
        return []


def workspace_argument(command: Any) -> Any:
    return click.argument("workspace", metavar="WORKSPACE", shell_complete=workspace_names)(command)


def workspace_option(help_text: str, *, required: bool = False) -> Callable[[Any], Any]:
    return click.option(
        "-w", "--workspace", metavar="NAME", required=required, help=help_text, shell_complete=workspace_names
    )


def read_script(file: str) -> str:
    """The text of a script file; `-` is standard input. Raises `click.BadParameter`."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise click.BadParameter(f"{file!r}: {error.strerror}.", param_hint="FILE") from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{file!r} is not a text file in UTF-8.", param_hint="FILE") from None
