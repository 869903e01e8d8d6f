"""The command line. A command's modules are imported when it runs."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from tfserve import __version__
from tfserve.access.principals import ASSIGNABLE
from tfserve.config import MAX_PORT, Settings, load, parse_address
from tfserve.errors import Invalid, TFserveError

TRAINING_PORT = 2333

_BACKGROUND = {
    "start": f"Start the server in the background. Port {TRAINING_PORT} serves the training API; --port chooses"
    " another.",
    "stop": "Stop the server that runs in the background, when its running jobs have ended.",
    "restart": "Stop the server that runs in the background, and start it again.",
    "status": "Print whether the server runs. Exit code: 0 if it does, 3 if it was stopped, 1 if it was killed.",
}


_BACKUPS = {
    "backup": "Save the data of a server to one file, also while the server runs.",
    "restore": "Restore a backup into an empty data folder.",
}


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """`tfserve`: returns the exit code."""
    return _run(tfserve_parser(), arguments)


def tfserve_parser() -> ArgumentParser:
    """The parser of `tfserve` with all its commands. The command-line reference is generated from it."""
    parser, commands = _parser("tfserve", "Train, run and serve TensorFlow models over plain HTTP and JSON.")
    parser.add_argument("--version", action="version", version=__version__, help="print the version")
    _add_serve(commands, "serve")
    _add_background(commands)
    _add_train(commands)
    _add_token(commands)
    _add_backup(commands)
    _add(commands, "version", "Print the version.", _version)
    return parser


def runserver(arguments: Sequence[str]) -> int:
    """`manage.py runserver`, the same as `tfserve serve`."""
    parser, commands = _parser("manage.py", "")
    _add_serve(commands, "runserver")
    return _run(parser, ["runserver", *arguments])


def daemon(arguments: Sequence[str]) -> int:
    """`server.py`: only the commands for the server in the background."""
    parser, commands = _parser("server.py", "Run the server in the background.")
    _add_background(commands)
    return _run(parser, arguments)


def _parser(prog: str, description: str) -> tuple[ArgumentParser, Any]:
    parser = ArgumentParser(prog=prog, description=description)
    return parser, parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _run(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    given = parser.parse_args(arguments or ["--help"])
    return int(given.command(given))


def _add(commands: Any, name: str, help_text: str, command: Any) -> ArgumentParser:
    """`command` takes the parsed arguments and returns the exit code."""
    parser: ArgumentParser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(command=command, parser=parser)
    return parser


# --- the server


def _add_serve(commands: Any, name: str) -> None:
    _add_settings(_add(commands, name, "Start the server in the foreground.", _serve))


def _add_background(commands: Any) -> None:
    for action, help_text in _BACKGROUND.items():
        parser = _add(commands, action, help_text, _background)
        parser.set_defaults(action=action)
        parser.add_argument(
            "--port", "--training-port", dest="training_port", type=_port, default=TRAINING_PORT, metavar="N",
            help=f"port of the training API ({TRAINING_PORT})",
        )  # fmt: skip
        _add_settings(parser, leave_out=("port", "training_port"))


def _add_settings(parser: ArgumentParser, leave_out: Sequence[str] = ()) -> None:
    """An option for each setting, and the positional `[addr:]port` of Django's runserver."""
    parser.usage = "%(prog)s [options] [[addr:]port]"
    parser.add_argument("address", nargs="?", metavar="[addr:]port", help="where to listen (default: 127.0.0.1:8000)")
    for each in fields(Settings):
        if each.metadata["flag"] and each.name not in leave_out:
            _add_setting(parser, each)


def _add_setting(parser: ArgumentParser, each: Field[Any]) -> None:
    name, help_text = "--" + each.name.replace("_", "-"), f"{each.metadata['help']} ({each.default!r})"
    help_text = help_text.replace("%", "%%")  # argparse formats it
    if isinstance(each.default, bool):
        parser.add_argument(name, action=BooleanOptionalAction, default=None, help=help_text)
    else:
        metavar = "TEXT" if isinstance(each.default, str) else "N"
        parser.add_argument(name, type=type(each.default), metavar=metavar, default=None, help=help_text)


def _settings(given: Namespace) -> Settings:
    """Exits with a usage message if a value is invalid."""
    parser: ArgumentParser = given.parser
    values = {each.name: getattr(given, each.name) for each in fields(Settings) if hasattr(given, each.name)}
    try:
        return load(values | (parse_address(given.address) if given.address else {}))
    except Invalid as error:
        parser.error(error.message)


def _serve(given: Namespace) -> int:
    settings = _settings(given)
    from tfserve.supervisor.main import main as serve

    return serve(settings)


def _background(given: Namespace) -> int:
    settings = _settings(given)
    from tfserve import daemon

    return daemon.ACTIONS[given.action](settings)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"expected a port from 1 to {MAX_PORT}, got {text!r}")
    return int(text)


# --- other commands


def _add_train(commands: Any) -> None:
    parser = _add(
        commands, "train",
        "Train on a project folder without a server. Ctrl-C cancels and keeps the best checkpoint, so you can resume.",
        _train,
    )  # fmt: skip
    parser.add_argument("folder", type=_folder, help="project folder")
    parser.add_argument(
        "--type", dest="train_type", type=str.lower, default="classification", metavar="TYPE",
        help="classification, segmentation or detection (classification)",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="parameters", type=_parameter, action="append", default=[], metavar="NAME=VALUE",
        help="training parameter; repeatable",
    )  # fmt: skip
    parser.add_argument("--resume", metavar="ID", help="resume a training that was cancelled or that failed")


def _train(given: Namespace) -> int:
    from tfserve.cli.train import train
    from tfserve.training.recipes.parameters import parsed

    chosen = {name: parsed(given.train_type, name, value) for name, value in given.parameters}
    return train(given.folder, given.train_type, chosen, given.resume)


def _add_token(commands: Any) -> None:
    parser = _add(commands, "token", "Create, list, rotate and revoke access tokens.", None)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = _add_token_action(actions, "create", "Create a token and print it. It is not shown again.")
    create.add_argument("name", help="name of the token")
    create.add_argument(
        "--scope", dest="scopes", action="append", required=True, choices=list(ASSIGNABLE),
        help="what it allows; repeatable. submit includes predict, admin includes everything",
    )  # fmt: skip
    create.add_argument(
        "--workspace", dest="workspaces", action="append", metavar="NAME",
        help="a workspace that it can use; repeatable (default: all)",
    )  # fmt: skip
    create.add_argument("--expires", metavar="DURATION", help="how long it is valid, such as 90d (default: no end)")
    _add_token_action(actions, "list", "List the tokens.")
    revoke = _add_token_action(actions, "revoke", "Revoke a token at once.")
    revoke.add_argument("name", help="name of the token")
    rotate = _add_token_action(actions, "rotate", "Give a token a new secret and print it.")
    rotate.add_argument("name", help="name of the token")
    rotate.add_argument(
        "--grace", default="24h", metavar="DURATION", help="how long the old secret stays valid, 0s: not at all (24h)"
    )
    _add_token_action(actions, "link", "Print a link that sets the password of the pages.")


def _add_token_action(actions: Any, name: str, help_text: str) -> ArgumentParser:
    parser = _add(actions, name, help_text, _token)
    parser.set_defaults(action=name)
    parser.add_argument("--data-dir", default=None, metavar="FOLDER", help="the data folder of the server (.tfserve)")
    return parser


def _token(given: Namespace) -> int:
    settings = load({"data_dir": given.data_dir})
    from tfserve.cli import tokens

    actions: dict[str, Callable[[], None]] = {
        "create": lambda: tokens.create(settings, given.name, given.scopes, given.workspaces, given.expires),
        "list": lambda: tokens.show(settings),
        "revoke": lambda: tokens.revoke(settings, given.name),
        "rotate": lambda: tokens.rotate(settings, given.name, given.grace),
        "link": lambda: tokens.link(settings),
    }
    try:
        actions[given.action]()
    except TFserveError as error:
        print(f"tfserve: {error.message}", file=sys.stderr)
        return 1
    return 0


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} {'is not a folder' if Path(text).exists() else 'does not exist'}")
    return Path(text).resolve()


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected name=value, got {text!r}")
    return name, value


def _add_backup(commands: Any) -> None:
    for name, help_text in _BACKUPS.items():
        parser = _add(commands, name, help_text, _backup)
        parser.set_defaults(action=name)
        parser.add_argument("file", type=Path, metavar="FILE", help="the backup, a tar file")
        data_dir = next(each for each in fields(Settings) if each.name == "data_dir")
        _add_setting(parser, data_dir)
        parser.set_defaults(address=None)


def _backup(given: Namespace) -> int:
    settings = _settings(given)
    from tfserve.cli import backup

    return getattr(backup, given.action)(given.file, settings)  # type: ignore[no-any-return]


def _version(_: Namespace) -> int:
    print(__version__)
    return 0
