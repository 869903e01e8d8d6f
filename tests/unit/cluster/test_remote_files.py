# ruff: noqa: ASYNC240 - the files are local and small
"""Requests to a worker on a node: it finds the files that they name, and what it writes is on the head afterwards."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from remote import machines, names, until, written

from tfserve.errors import Invalid
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import (
    BecomeModel,
    Convert,
    Converted,
    IdentifyModel,
    JobState,
    ModelLoaded,
    OpenMirror,
    RunScript,
    ScriptEnded,
)
from tfserve.models.runtime_reports import RuntimeTrial
from tfserve.supervisor.cluster import shares

LOADED = ModelLoaded(format="x", version=None, signatures={}, warm_up="", memory_bytes=0)
ENDED = ScriptEnded(state=JobState.SUCCEEDED, error=None, variables=b"{}")


# --- models


async def test_a_model_is_loaded_from_the_node_and_reported_with_the_path_of_the_head(tmp_path: Path) -> None:
    model = tmp_path / "models" / "7"
    written(model / "saved_model.pb")
    written(model / "variables" / "variables.index")
    source = written(tmp_path / "keras" / "a.keras")

    async def load(request: BecomeModel) -> ModelLoaded:
        path = Path(request.path)
        assert path.is_relative_to(tmp_path / "node")
        assert (path.name, names(path)) == ("7", {"saved_model.pb", "variables/variables.index"})
        assert names(Path(request.source).parent) == {"a.keras"}
        return ModelLoaded(format="x", version=7, signatures={}, warm_up=f"loaded {path}", memory_bytes=0)

    async with machines(tmp_path) as both:
        request = BecomeModel(workspace="w", path=str(model), source=str(source))
        response = await both.carrier().carry(request, load)
        assert response.warm_up == f"loaded {model}"
        sent = both.files.sent_bytes
        await both.carrier().carry(request, load)
        assert both.files.sent_bytes == sent


async def test_an_error_has_the_path_of_the_head(tmp_path: Path) -> None:
    model = written(tmp_path / "a.onnx")

    async def refuse(request: IdentifyModel) -> str:
        raise Invalid(f"{request.path} is damaged", path=request.path)

    async with machines(tmp_path) as both:
        with pytest.raises(Invalid, match=f"^{model} is damaged$") as raised:
            await both.carrier().carry(IdentifyModel(path=str(model)), refuse)
    assert raised.value.detail == {"path": str(model)}


async def test_a_missing_model_is_left_to_the_worker(tmp_path: Path) -> None:
    async def echo(request: IdentifyModel) -> str:
        return request.path

    async with machines(tmp_path) as both:
        missing = str(tmp_path / "missing" / "model")
        assert await both.carrier().carry(IdentifyModel(path=missing), echo) == missing


async def test_a_shared_folder_is_not_copied(tmp_path: Path) -> None:
    model = written(tmp_path / "shared" / "a.tflite")

    async def echo(request: IdentifyModel) -> str:
        return request.path

    async with machines(tmp_path, shared_dir=str(tmp_path / "shared")) as both:
        assert await both.carrier().carry(IdentifyModel(path=str(model)), echo) == str(model)
        assert both.files.sent_bytes == 0


async def test_a_checkpoint_has_its_graph_and_other_weights(tmp_path: Path) -> None:
    for name in ("m.meta", "m.index", "m.data-00000-of-00001", "n.index"):
        written(tmp_path / "tf1" / name)
    for name in ("w.index", "w.data-00000-of-00001", "other.index"):
        written(tmp_path / "weights" / name)

    async def load(request: BecomeModel) -> ModelLoaded:
        assert request.weights is not None
        assert names(Path(request.path).parent) == {"m.meta", "m.index", "m.data-00000-of-00001"}
        assert names(Path(request.weights).parent) == {"w.index", "w.data-00000-of-00001"}
        assert Path(request.weights).name == "w"
        return LOADED

    async with machines(tmp_path) as both:
        request = BecomeModel(workspace="w", path=f"{tmp_path}/tf1/m", weights=f"{tmp_path}/weights/w")
        assert await both.carrier().carry(request, load) == LOADED


@pytest.mark.parametrize(
    ("model", "others", "expected"),
    [
        ("m.xml", ["m.bin", "m.keras", "n.bin"], {"m.xml", "m.bin"}),
        ("m.pdmodel", ["m.pdiparams", "m.txt"], {"m.pdmodel", "m.pdiparams"}),
        ("m.tflite", ["m.onnx", "known_names.msgpack"], {"m.tflite", "known_names.msgpack"}),
        (
            "m.keras",
            ["m.image.json", "m.signature.json", "n.image.json"],
            {"m.keras", "m.image.json", "m.signature.json"},
        ),
    ],
)
def test_the_files_of_a_model(tmp_path: Path, model: str, others: list[str], expected: set[str]) -> None:
    for name in (model, *others):
        written(tmp_path / name)
    assert set(shares.of_model(str(tmp_path / model)).paths) == expected


def test_the_external_data_of_an_onnx_file_belongs_to_it(tmp_path: Path) -> None:
    long = "w" * 200 + ".bin"
    names_in_file = ("data/w.bin", "../secret", "/etc/passwd", "gone.bin", long)
    content = b"".join(b"\x0a\x08location\x12" + _varint(len(each)) + each.encode() + b"\x12" for each in names_in_file)
    model = written(tmp_path / "m.onnx", content)
    written(tmp_path / "data" / "w.bin")
    written(tmp_path / long)
    assert set(shares.of_model(str(model)).paths) == {"m.onnx", "data/w.bin", long}


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 0x7F | 0x80, number >> 7])


async def test_each_candidate_finds_what_others_left_in_the_work_folder(tmp_path: Path) -> None:
    model, work = written(tmp_path / "m" / "saved_model.pb").parent, tmp_path / "head" / "conversions" / "key.aside"
    work.mkdir(parents=True)

    async def try_tensorflow(request: Convert) -> Converted:
        written(Path(request.work_folder) / "reference" / "0.npz")
        return Converted(trial=RuntimeTrial(runtime="tensorflow", ok=True))

    async def try_litert(request: Convert) -> Converted:
        assert names(Path(request.work_folder)) == {"reference/0.npz"}
        file = written(Path(request.work_folder) / "litert" / "model.tflite")
        return Converted(trial=RuntimeTrial(runtime="litert", ok=True, reason=str(file), path="litert/model.tflite"))

    request = Convert(candidate="x", path=str(model), key="k", work_folder=str(work))
    async with machines(tmp_path) as both:
        await both.carrier().carry(request, try_tensorflow)
        await both.restart_node()
        found = await both.carrier().carry(request, try_litert)
    assert found.trial.reason == f"{work}/litert/model.tflite"
    assert names(work) == {"reference/0.npz", "litert/model.tflite"}


async def test_a_broken_connection_is_opened_again(tmp_path: Path) -> None:
    model = written(tmp_path / "big.tflite", os.urandom(9 * 2**20))

    async def compare(request: IdentifyModel) -> str:
        return str(Path(request.path).read_bytes() == model.read_bytes())

    async with machines(tmp_path) as both:
        copying = asyncio.create_task(both.carrier().carry(IdentifyModel(path=str(model)), compare))
        await until(lambda: both.files.sent_bytes >= 2 * 2**20)
        both.break_connection()
        assert await copying == "True"
        assert both.files.sent_bytes <= 9 * 2**20 + 5 * 2**20  # what was on its way is sent again, but not everything


async def test_the_end_of_the_worker_ends_the_copy(tmp_path: Path) -> None:
    async with machines(tmp_path) as both:
        await both.node.close()
        both.break_connection()
        files = both.files
        copying = asyncio.create_task(files.ask(OpenMirror(name="x")))
        await asyncio.sleep(0)
        both.head.closed("w1")
        with pytest.raises(ConnectionLost):
            await copying


# --- scripts


async def test_the_folder_of_a_workspace_is_the_same_on_both_machines(tmp_path: Path) -> None:
    folder = tmp_path / "head" / "workspaces" / "w"
    written(folder / "input.csv", b"1")
    written(folder / "old.txt")

    async def first(request: RunScript) -> ScriptEnded:
        here = Path(request.folder)
        assert names(here) == {"input.csv", "old.txt"}
        (here / "old.txt").unlink()
        written(here / "out" / "result.csv", b"2")
        return ENDED

    async def second(request: RunScript) -> ScriptEnded:
        here = Path(request.folder)
        assert names(here) == {"input.csv", "out/result.csv"}
        assert (here / "input.csv").read_bytes() == b"changed by the API"
        return ENDED

    request = RunScript(job=0, workspace="w", folder=str(folder), text="")
    async with machines(tmp_path) as both:
        carrier = both.carrier()
        await carrier.carry(request, first)
        assert names(folder) == {"input.csv", "out/result.csv"}
        assert (folder / "out" / "result.csv").read_bytes() == b"2"
        written(folder / "input.csv", b"changed by the API")
        await carrier.carry(request, second)
        assert names(folder) == {"input.csv", "out/result.csv"}


async def test_workspaces_that_share_a_process_have_a_folder_each(tmp_path: Path) -> None:
    folders = [tmp_path / name / "files" for name in ("one", "two", "three")]
    for folder in folders:
        written(folder / "name.txt", folder.parent.name.encode())

    async def write(request: RunScript) -> ScriptEnded:
        here = Path(request.folder)
        await asyncio.sleep(0)
        written(here / "result.txt", (here / "name.txt").read_bytes())
        return ENDED

    async with machines(tmp_path) as both:
        carrier = both.carrier()
        for _ in range(2):
            requests = [RunScript(job=0, workspace=each.parent.name, folder=str(each), text="") for each in folders]
            await asyncio.gather(*(carrier.carry(request, write) for request in requests))
    assert [(each / "result.txt").read_bytes() for each in folders] == [b"one", b"two", b"three"]
    assert all(names(each) == {"name.txt", "result.txt"} for each in folders)


async def test_a_script_in_a_file_has_its_modules(tmp_path: Path) -> None:
    script = written(tmp_path / "scripts" / "main.py")
    written(tmp_path / "scripts" / "helper.py")
    written(tmp_path / "scripts" / "package" / "__init__.py")
    written(tmp_path / "scripts" / "data.bin")

    async def run(request: RunScript) -> ScriptEnded:
        assert request.file is not None
        assert names(Path(request.file).parent) == {"main.py", "helper.py", "package/__init__.py"}
        return ScriptEnded(state=JobState.FAILED, error=f'{{"traceback": "{request.file}"}}'.encode(), variables=b"{}")

    async with machines(tmp_path) as both:
        request = RunScript(job=0, workspace="w", folder=str(tmp_path / "w"), file=str(script))
        ended = await both.carrier().carry(request, run)
    assert ended.error == f'{{"traceback": "{script}"}}'.encode()


async def test_the_last_writer_wins(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    written(folder / "both.txt", b"0")
    written(folder / "kept.txt", b"0")

    async def nothing(_: RunScript) -> ScriptEnded:
        return ENDED

    async def write(request: RunScript) -> ScriptEnded:
        written(Path(request.folder) / "both.txt", b"script")
        os.utime(written(folder / "both.txt", b"API"), ns=(10**18, 10**18))  # long before
        (folder / "kept.txt").unlink()
        written(Path(request.folder) / "kept.txt", b"script")
        return ENDED

    async with machines(tmp_path) as both:
        carrier, request = both.carrier(), RunScript(job=0, workspace="w", folder=str(folder), text="")
        await carrier.carry(request, nothing)
        await carrier.carry(request, write)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {"both.txt": b"script", "kept.txt": b"script"}


async def test_a_file_that_both_machines_removed_may_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    written(folder / "a.txt", b"0")

    async def nothing(_: RunScript) -> ScriptEnded:
        return ENDED

    async def remove(request: RunScript) -> ScriptEnded:
        (Path(request.folder) / "a.txt").unlink()
        (folder / "a.txt").unlink()
        return ENDED

    async with machines(tmp_path) as both:
        carrier, request = both.carrier(), RunScript(job=0, workspace="w", folder=str(folder), text="")
        await carrier.carry(request, remove)
        written(folder / "a.txt", b"0")
        await carrier.carry(request, nothing)
    assert names(folder) == {"a.txt"}


async def test_files_arrive_even_when_the_script_has_failed(tmp_path: Path) -> None:
    async def fail(request: RunScript) -> ScriptEnded:
        written(Path(request.folder) / "partial.txt")
        raise Invalid("x")

    async with machines(tmp_path) as both:
        request = RunScript(job=0, workspace="w", folder=str(tmp_path / "w"), text="")
        with pytest.raises(Invalid):
            await both.carrier().carry(request, fail)
    assert names(tmp_path / "w") == {"partial.txt"}


async def test_a_link_out_of_the_folder_is_not_followed_on_either_machine(tmp_path: Path) -> None:
    secret = written(tmp_path / "secret", b"secret")
    folder = tmp_path / "w"

    async def link(request: RunScript) -> ScriptEnded:
        (Path(request.folder) / "link").symlink_to(secret)
        (Path(request.folder) / "folder").symlink_to(tmp_path)
        return ENDED

    async def replace(request: RunScript) -> ScriptEnded:
        here = Path(request.folder)
        (here / "folder").unlink()
        written(here / "folder" / "secret", b"overwritten")
        return ENDED

    async with machines(tmp_path) as both:
        carrier, request = both.carrier(), RunScript(job=0, workspace="w", folder=str(folder), text="")
        await carrier.carry(request, link)
        assert (folder / "link").readlink() == secret
        await carrier.carry(request, replace)
    assert (folder / "folder" / "secret").read_bytes() == b"overwritten"
    assert secret.read_bytes() == b"secret"


async def test_what_a_killed_worker_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "node" / "mirrors" / "0123"
    written(left / "x")
    written(left.with_name("0123.lock"))
    async with machines(tmp_path) as both:
        own = Path(await both.files.open_mirror("x"))
        await both.files.ask(OpenMirror(name="y"))
        await until(lambda: not left.exists())
        assert own.is_dir()
    assert not own.exists()
