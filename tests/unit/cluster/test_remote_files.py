# ruff: noqa: ASYNC240 - the files are local and small
"""Requests to a worker on a node: it finds the files that they name, and what it writes is on the head afterwards."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from remote import gone, machines, until

from tfserve.errors import Invalid
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import (
    BecomeModel,
    Convert,
    Converted,
    ExamineProject,
    IdentifyModel,
    JobState,
    ModelLoaded,
    OpenMirror,
    ProjectExamined,
    RunScript,
    ScriptEnded,
    Train,
    TrainingEnded,
)
from tfserve.models.runtime_reports import Trial
from tfserve.supervisor.cluster import shares
from tfserve.training.atomic_files import publish, written_aside
from tfserve.training.dataset.dataset_index import Findings, ImageFile, read
from tfserve.training.recipes.run import _on_this_machine

LOADED = ModelLoaded(format="x", version=None, signatures={}, warm_up="", memory_bytes=0)
ENDED = ScriptEnded(state=JobState.SUCCEEDED, error=None, variables=b"{}")


def written(file: Path, content: bytes = b"x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def names(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}


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
        return Converted(trial=Trial(runtime="tensorflow", ok=True))

    async def try_litert(request: Convert) -> Converted:
        assert names(Path(request.work_folder)) == {"reference/0.npz"}
        file = written(Path(request.work_folder) / "litert" / "model.tflite")
        return Converted(trial=Trial(runtime="litert", ok=True, reason=str(file), path="litert/model.tflite"))

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


# --- data sets and trainings


def project_of(tmp_path: Path) -> Path:
    project = tmp_path / "flowers"
    written(project / "images" / "rose" / "1.jpg")
    written(project / "models" / "feedback" / "rose" / "2.jpg")
    written(project / "models" / "old" / "metrics.json")
    written(project / "models" / "old" / "model.keras")
    written(project / "models" / "older" / "metrics.json")
    written(project / "models" / "older" / "model.keras")
    (project / "models" / "latest").symlink_to("old")
    return project


def train(tmp_path: Path, project: Path, **parameters: Any) -> Train:
    task = tmp_path / "head" / "training" / "t1"
    task.mkdir(parents=True, exist_ok=True)
    return Train(
        job=1, task_id="t1", project_dir=str(project), train_type="classification", parameters=parameters,
        findings=str(task / "findings.json"), folder=str(project / "models" / "t1"), work_folder=str(task / "work"),
        timings=str(tmp_path / "head" / "training-times.json"),
    )  # fmt: skip


async def test_an_examination_keeps_its_findings_on_the_head(tmp_path: Path) -> None:
    project, task = project_of(tmp_path), tmp_path / "head" / "training" / "t1"
    task.mkdir(parents=True)
    weights = written(task / "weights.h5")
    findings = Findings(
        train_type="classification", project_dir="", labels=["rose"], numbers=[0], images=[], skipped=[], problems=[]
    )

    async def examine(request: ExamineProject) -> ProjectExamined:
        here = Path(request.project_dir)
        assert names(here) == {
            "images/rose/1.jpg", "models/feedback/rose/2.jpg", "models/old/metrics.json", "models/old/model.keras",
            "models/older/metrics.json",
        }  # fmt: skip
        assert Path(request.parameters["weights"]).read_bytes() == b"x"
        derived = written(Path(request.findings).parent / "derived" / "unpacked" / "3.jpg")
        findings.project_dir = str(here)
        findings.images = [ImageFile(str(derived), 1, 1, grey=False, digest="d")]
        findings.write(Path(request.findings))
        return ProjectExamined(
            problems=[f"{here}/images is small"], skipped=[], skipped_count=0, image_count=1, classes=[]
        )

    request = ExamineProject(
        project_dir=str(project), train_type="classification", findings=str(task / "findings.json"),
        parameters={"weights": str(weights), "warmStart": "old"}, roots=[str(tmp_path)],
    )  # fmt: skip
    async with machines(tmp_path) as both:
        found = await both.carrier().carry(request, examine)
    assert found.problems == [f"{project}/images is small"]
    kept = read(task / "findings.json")
    assert kept.project_dir == str(project)
    assert kept.images[0].path == str(task / "derived" / "unpacked" / "3.jpg")
    assert Path(kept.images[0].path).is_file()


def test_the_paths_of_the_head_are_found_on_the_node() -> None:
    findings = Findings(
        train_type="segmentation", project_dir="/p", labels=[], numbers=[], skipped=[], problems=[],
        images=[ImageFile("a.jpg", 1, 1, False, "d", mask="/task/derived/a.png")],
    )  # fmt: skip
    found, chosen = _on_this_machine(
        findings, {"weights": "/w.h5", "epochs": 3}, {"/task": "/n/1", "/w.h5": "/n/2/w.h5"}
    )
    assert (found.images[0].path, found.images[0].mask) == ("a.jpg", "/n/1/derived/a.png")
    assert chosen == {"weights": "/n/2/w.h5", "epochs": 3}


def checkpoint(work: Path, epoch: int) -> None:
    """As `Checkpoints` does it: the best model first."""
    for name in (f"best-{epoch:06d}.npz", f"checkpoint-{epoch:06d}.npz"):
        with written_aside(work / name) as aside:
            aside.write_bytes(name.encode())
    (work / f"checkpoint-{epoch - 2:06d}.npz").unlink(missing_ok=True)


async def test_checkpoints_come_back_while_a_training_runs_and_it_continues_elsewhere(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    request = train(tmp_path, project)
    written(Path(request.findings), b"{}")
    work = Path(request.work_folder) / "network"

    async def die(local: Train) -> TrainingEnded:
        here = Path(local.work_folder) / "network"
        written(Path(local.work_folder) / "temporary" / "x")
        written(Path(local.work_folder) / "features.npy")
        written(Path(local.work_folder) / ".checkpoint-9.npz.writing")
        for epoch in (1, 2, 3):
            checkpoint(here, epoch)
        await until((work / "checkpoint-000003.npz").exists)
        return await gone(local)

    async def finish(local: Train) -> TrainingEnded:
        here = Path(local.work_folder) / "network"
        assert (here / "checkpoint-000003.npz").read_bytes() == b"checkpoint-000003.npz"
        folder = Path(local.folder)
        aside = folder.with_name(".t1.writing")
        written(aside / "saved_model" / "saved_model.pb")
        written(aside / "metrics.json", b"{}")
        publish(aside, folder)
        written(Path(local.timings), b"{}")
        return TrainingEnded(state=JobState.SUCCEEDED, model_path=str(folder / "saved_model"))

    async with machines(tmp_path) as both:
        with pytest.raises(ConnectionLost):
            await both.carrier().carry(request, die)
        assert names(Path(request.work_folder)) == {
            f"network/{name}-00000{epoch}.npz" for name, epochs in (("best", (1, 2, 3)), ("checkpoint", (2, 3)))
            for epoch in epochs
        }  # fmt: skip
        await both.restart_node()
        ended = await both.carrier().carry(request, finish)
    assert ended.model_path == str(project / "models" / "t1" / "saved_model")
    assert names(project / "models" / "t1") == {"saved_model/saved_model.pb", "metrics.json"}
    assert (project / "models" / "latest").readlink() == Path("t1")
    assert not Path(request.work_folder).exists()
    assert not list((project / "models").glob(".*"))


async def test_checkpoints_stay_until_the_result_is_on_the_head(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    request = train(tmp_path, project)
    written(Path(request.findings), b"{}")
    work = Path(request.work_folder) / "network"

    async def lose_the_result(local: Train) -> TrainingEnded:
        here = Path(local.work_folder) / "network"
        checkpoint(here, 1)
        await until((work / "checkpoint-000001.npz").exists)
        for each in [*here.iterdir()]:
            each.unlink()
        here.rmdir()
        return await gone(local)

    async with machines(tmp_path) as both:
        with pytest.raises(ConnectionLost):
            await both.carrier().carry(request, lose_the_result)
    assert (work / "checkpoint-000001.npz").is_file()


async def test_a_training_that_was_complete_is_not_repeated(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    request = train(tmp_path, project)
    written(Path(request.findings), b"{}")
    written(Path(request.folder) / "metrics.json", b"{}")
    written(Path(request.folder) / "model.keras")

    async def look(local: Train) -> TrainingEnded:
        assert names(Path(local.folder)) == {"metrics.json"}
        return TrainingEnded(state=JobState.SUCCEEDED, model_path=f"{local.folder}/saved_model")

    async with machines(tmp_path) as both:
        await both.carrier().carry(request, look)
    assert names(Path(request.folder)) == {"metrics.json", "model.keras"}
    assert (project / "models" / "latest").readlink() == Path("t1")


async def test_a_zip_file_has_its_results_next_to_it(tmp_path: Path) -> None:
    archive = written(tmp_path / "sets" / "flowers.zip")
    written(tmp_path / "sets" / "flowers" / "models" / "feedback" / "rose" / "2.jpg")
    written(tmp_path / "sets" / "flowers" / "models" / "old" / "model.keras")
    written(tmp_path / "sets" / "other.zip")
    share = shares.of_project(str(archive), {"warmStart": "none"})

    async def look(request: IdentifyModel) -> str:
        return request.path

    async with machines(tmp_path) as both:
        assert await both.carrier().carry(IdentifyModel(path=str(archive)), look)
    assert share.paths == ("flowers.zip", "flowers/models")
    assert share.includes("flowers/models/feedback/rose/2.jpg")
    assert not share.includes("flowers/models/old/model.keras")


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
