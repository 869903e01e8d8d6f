"""The command line without a server: its list of commands, its options, and the checks of `tfserve doctor`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tfserve import __version__
from tfserve.access import local_token
from tfserve.cli.checkup import Level, data_folder, packages, port, python
from tfserve.cli.display import show_fields, show_on_terminal, show_table
from tfserve.cli.image_predictions import predict_folder
from tfserve.cli.main import COMMANDS, SECTIONS, run, tfserve
from tfserve.cli.resource_options import RESOURCES, autoscale_option
from tfserve.cli.target import Target
from tfserve.cluster.identity import JoinToken
from tfserve.supervisor.lock import DataFolderLock

CONTEXT = click.Context(tfserve)
HEAVY = ("tensorflow", "django", "numpy", "uvicorn", "grpc")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says(name: str) -> None:
    command = tfserve.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert command.help is not None
    first = command.help.partition(".")[0]
    assert COMMANDS[name].summary.partition(",")[0].rstrip(".").split(" on this")[0] in first


def test_every_command_explains_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        command = tfserve.get_command(CONTEXT, name)
        assert command is not None
        commands = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
        for each in commands:
            assert each.help, f"{name} {each.name} has no help"
            missing = [option.name for option in each.params if isinstance(option, click.Option) and not option.help]
            assert missing == [], f"{name} {each.name}"
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert [title for title in SECTIONS if f"{title}:" not in printed] == []


def test_help_and_commands_load_no_heavy_library() -> None:
    code = (
        "import sys\nfrom tfserve.cli.main import COMMANDS, run, tfserve\n"
        "[tfserve.get_command(None, name) for name in COMMANDS]\nimport tfserve_client\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_address_is_that_of_the_option_the_environment_or_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFSERVE_URL", raising=False)
    assert Target().url == "http://127.0.0.1:8000"
    assert Target(server="models.example.com:80").url == "http://models.example.com:80"
    assert not Target(server="https://models.example.com/").is_on_this_machine
    monkeypatch.setenv("TFSERVE_URL", "http://localhost:8001/")
    assert (Target().url, Target().is_on_this_machine) == ("http://localhost:8001", True)
    assert Target(server="http://127.0.0.1:1").url == "http://127.0.0.1:1"


def test_the_local_token_is_sent_only_to_the_server_of_the_data_folder(tmp_path: Path) -> None:
    secret = local_token.begin(tmp_path)
    lock = DataFolderLock(tmp_path)
    lock.write("http://127.0.0.1:8123")
    try:
        assert Target(server="http://localhost:8123", local_data=tmp_path)._local_token() == secret
        assert Target(server="http://localhost:8124", local_data=tmp_path)._local_token() is None
        assert Target(server="http://example.com:8123", local_data=tmp_path)._local_token() is None
    finally:
        lock.release()


# --- doctor


def test_an_old_python_is_a_problem_and_a_new_one_a_warning() -> None:
    assert [python(version).level for version in ((3, 10), (3, 11), (3, 14))] == ["problem", "ok", "warning"]


def test_the_installed_packages_are_complete() -> None:
    (diagnosis,) = packages(Path(sys.prefix))
    assert diagnosis.level is Level.OK, diagnosis


def test_a_data_folder_that_can_not_be_written_is_a_problem(tmp_path: Path) -> None:
    assert next(iter(data_folder(tmp_path / "new"))).level is Level.OK
    found = next(iter(data_folder(Path("/proc/data"))))
    assert found.level is Level.PROBLEM
    assert "--data-dir" in found.advice


def test_a_used_port_is_a_problem_with_the_program_that_uses_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        found = port("127.0.0.1", number, None)
    assert found.level is Level.PROBLEM
    assert f"pid {os.getpid()}" in found.text
    assert port("127.0.0.1", number, None).level is Level.OK


# --- resources and autoscaling


def parsed_options(
    decorate: Callable[[Callable[..., object]], Callable[..., object]], *given: str
) -> dict[str, object]:
    found: dict[str, object] = {}
    command = click.command()(decorate(lambda **given: found.update(given)))
    command.main(list(given), standalone_mode=False)
    return found


def test_resources_are_given_as_pairs() -> None:
    given = ["--resource", "gpu=1", "--resource", "memory=4GiB", "--resource", "node=big"]
    assert parsed_options(RESOURCES, *given) == {"resources": {"gpu": 1.0, "memory": "4GiB", "node": "big"}}
    assert parsed_options(RESOURCES) == {"resources": None}


@pytest.mark.parametrize("given", ["gpu", "gpu=", "gpus=1", "cpu=two", "=1"])
def test_what_is_not_a_resource_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match=r"expected (cpu=N, gpu=N|a number for cpu)"):
        parsed_options(RESOURCES, "--resource", given)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ("1:4", {"min": 1, "max": 4}),
        ("2:3:0.5", {"min": 2, "max": 3, "target_queue": 0.5}),
        ("off", False),
    ],
)
def test_autoscaling_is_given_as_limits(given: str, limits: object) -> None:
    assert parsed_options(autoscale_option(can_turn_off=True), "--autoscale", given) == {"autoscale": limits}


@pytest.mark.parametrize("given", ["4", "1:", "a:b", "1:4:", "off"])
def test_what_is_not_a_limit_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match=r"expected MIN:MAX or MIN:MAX:QUEUE, such as 1:4 or 1:4:8, got"):
        parsed_options(autoscale_option(), "--autoscale", given)


def test_the_join_token_stays_the_same_and_only_its_owner_can_read_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for _ in range(2):
        assert run(["cluster", "token", "--data-dir", str(tmp_path)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert str(JoinToken.parse(printed[0])) == printed[0].strip()
    assert (tmp_path / "cluster" / "secret").stat().st_mode & 0o077 == 0


def test_python_m_tfserve_is_the_command() -> None:
    command = [sys.executable, "-m", "tfserve", "version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == __version__


@pytest.mark.parametrize("group", ["workspaces", "files", "uploads", "token", "trainings", "cluster"])
def test_a_group_lists_its_commands_in_full_and_suggests_the_nearest(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([group, "--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]
    command = tfserve.get_command(CONTEXT, group)
    assert isinstance(command, click.Group)
    name = next(iter(command.commands))
    assert run([group, f"{name}x"]) == 2
    assert f"no command '{name}x' (did you mean '{name}'?)" in capsys.readouterr().err


def test_letters_that_are_twice_as_wide_do_not_move_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("name", "state"), [("实验室", "idle"), ("lab", "idle")])
    assert capsys.readouterr().out.splitlines() == ["name    state", "实验室  idle", "lab     idle"]
    show_fields({"实验": 1, "lab": 2})
    assert capsys.readouterr().out.splitlines() == ["实验  1", "lab   2"]


def test_a_narrow_terminal_cuts_nothing_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    row = ["123456789", "workspace-of-somebody", "succeeded", "2026-11-28 14:37:08"]
    show_on_terminal(("id", "workspace", "state", "created"), [row])
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert max(len("  ".join(line)) for line in lines) <= 40
    assert any("123456789" in line[0] for line in lines)
    assert "…" not in str(lines)


def test_a_terminal_that_is_too_narrow_for_columns_shows_rows_as_blocks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    columns = ("name", "format", "version", "state", "runtime")
    rows = [["shop", "ONNX file", "1", "active", "onnxruntime"], ["garden", "Keras file", "12", "failed", "-"]]
    show_on_terminal(columns, rows)
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines() == [
        "name     shop",
        "format   ONNX file",
        "version  1",
        "state    active",
        "runtime  onnxruntime",
    ]
    assert "garden" in second


def test_masks_of_an_earlier_run_are_not_images_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of the images, where the table and the masks are written too; names may be in any encoding."""
    monkeypatch.chdir(tmp_path)
    names = [b"caf\xe9.png", "日本.png".encode()]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(b"")
    output = Path("masks-of-it.csv")
    for before in (0, 2):
        assert predict_folder(Path(), output, "seg 1", lambda _: {"mask": b"mask"}) == (2, before, 0)
    assert predict_folder(tmp_path, output, "seg 1", lambda _: {"mask": b"mask"}) == (2, 2, 0)
    assert output.read_bytes().count(b"caf\xe9.png,") == 1


@pytest.mark.parametrize("content", ["a,b\n", 'file,"unfinished', "file,label,score,box,mask,error\n"])
def test_a_file_that_is_no_table_of_predictions_is_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    output = tmp_path / "kept.csv"
    output.write_text(content)
    with pytest.raises(
        click.BadParameter, match=r"exists, and (is not a table of predictions|was written by an earlier)"
    ):
        predict_folder(tmp_path, output, "m 1", lambda _: {})
    assert output.read_text() == content
