"""What all groups of commands have in common."""

from __future__ import annotations

from typing import Any

import click

from tfserve.errors import nearest

SUMMARY_LENGTH = 500


class CommandGroup(click.Group):
    """Suggests the nearest command for an unknown one, and lists commands with their whole first sentence."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no command {args[0]!r}{nearest(args[0], names)}. `{ctx.command_path} --help` lists them.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(SUMMARY_LENGTH)) for name, each in commands if each is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
