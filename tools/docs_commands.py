"""The reference of the command line in Markdown, generated from the commands."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Container

import click

from tfserve.cli.main import SECTIONS, tfserve
from tfserve.config import Settings
from tools.docs_tables import table

TARGET = {"server", "token", "ca_file", "as_json"}
"""Options of every command, which the page describes once."""
SETTINGS = {each.name for each in dataclasses.fields(Settings)}


def command_line() -> str:
    context = click.Context(tfserve, info_name="tfserve")
    parts = ["## Options of every command", _options(tfserve, leave_out={"help"})]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}")
        parts += [_command(found, context) for name in section if (found := tfserve.get_command(context, name))]
    return "\n\n".join(parts)


def _command(command: click.Command, parent: click.Context) -> str:
    """A command with its arguments and options, and those of its group."""
    context = click.Context(command, info_name=command.name, parent=parent)
    takes_settings = sum(each.name in SETTINGS for each in command.params) > 1
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    own = _options(command, leave_out={"help", *TARGET, *(SETTINGS if takes_settings else ())})
    link = "Options: all [settings](settings.md)." if takes_settings else ""
    commands = command.commands.values() if isinstance(command, click.Group) else ()
    parts = [f"### {context.command_path}", f"    {usage}", _help(command), link, own]
    return "\n\n".join(filter(None, [*parts, *(_command(each, context) for each in commands)]))


def _help(command: click.Command) -> str:
    """The help text. What it prints as it is written becomes an indented block."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(
        textwrap.indent(each.removeprefix("\b\n"), " " * 4) if each.startswith("\b") else each for each in paragraphs
    )


def _options(command: click.Command, *, leave_out: Container[str]) -> str:
    context = click.Context(command)
    records = [each.get_help_record(context) for each in command.params if each.name not in leave_out]
    rows = [[f"`{usage}`", meaning] for usage, meaning in filter(None, records) if meaning]
    return table(["option", "meaning"], rows) if rows else ""
