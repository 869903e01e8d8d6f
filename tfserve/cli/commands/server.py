"""`tfserve serve`, and the server in the background: `start`, `stop`, `restart`, `status`."""

from __future__ import annotations

from typing import Any

import click

from tfserve.cli.display import show_fields, show_json
from tfserve.cli.options import TRAINING_PORT, PortNumber, address, setting_options, settings_of
from tfserve.cli.target import Target, reported, target_options

SUMMARIES = {
    "start": (
        f"Start the server in the background.\n\nPort {TRAINING_PORT} serves the training API; --port chooses another."
    ),
    "stop": "Stop the server that runs in the background, when its running jobs have ended.",
    "restart": "Stop the server that runs in the background, and start it again.",
    "status": (
        "Print whether the server runs.\n\nExit code: 0 if it does, 3 if it was stopped, 1 if it was killed. With"
        " --server, prints the state of that server."
    ),
}


@click.command()
@setting_options()
@address
def serve(**given: Any) -> int:
    """Start the server in the foreground."""
    settings = settings_of(given)
    from tfserve.supervisor.main import main

    return main(settings)


def _background(action: str) -> click.Command:
    def command(**given: Any) -> int:
        target = click.get_current_context().ensure_object(Target)
        if action == "status" and target.server is not None:
            code: int = reported(target, lambda: _remote_status(target))
            return code
        settings = settings_of(given)
        from tfserve import daemon

        return daemon.ACTIONS[action](settings)

    options = setting_options(leave_out=("port", "training_port"))
    command = options(address(_training_port(command)))
    return click.command(action, help=SUMMARIES[action])(target_options(command) if action == "status" else command)


def _training_port(command: Any) -> Any:
    return click.option(
        "--port", "--training-port", "training_port", type=PortNumber(), default=TRAINING_PORT, metavar="N",
        help=f"port of the training API ({TRAINING_PORT})",
    )(command)  # fmt: skip


def _remote_status(target: Target) -> int:
    with target.client() as client:
        state = client.server()
    if target.as_json:
        show_json(state)
        return 0
    names = [each["name"] for each in state["workspaces"]]
    show_fields({"server": target.url, "version": state["version"], "pid": state["pid"], "workspaces": names})
    return 0


COMMANDS = {"serve": serve, **{action: _background(action) for action in SUMMARIES}}
