"""`tfserve completion` and `tfserve version`."""

from __future__ import annotations

import click

from tfserve import __version__

HOW = """Print the script that completes commands in your shell.

\b
bash:  eval "$(tfserve completion bash)"              in ~/.bashrc
zsh:   eval "$(tfserve completion zsh)"               in ~/.zshrc, after compinit
fish:  tfserve completion fish > ~/.config/fish/completions/tfserve.fish
"""


@click.command(help=HOW)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    from click.shell_completion import get_completion_class

    from tfserve.cli.main import tfserve

    found = get_completion_class(shell)
    assert found is not None
    # Without its check of bash's version, for which it would start bash.
    values = found(tfserve, {}, "tfserve", "_TFSERVE_COMPLETE")
    template = values.source_template
    if shell == "fish":  # values and descriptions may have commas
        template = template.replace('string split ","', 'string split --max 1 ","')
    click.echo(template % values.source_vars())


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)


COMMANDS = {"completion": completion, "version": version}
