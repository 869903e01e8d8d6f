# ruff: noqa: ASYNC240 - the files are local and small
"""Trainings on a node: it has the images, checkpoints return to the head at once, and a result when it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from remote import gone, machines, names, until, written

from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import (
    ExamineProject,
    IdentifyModel,
    JobState,
    ProjectExamined,
    Train,
    TrainingEnded,
)
from tfserve.supervisor.cluster import shares
from tfserve.training.atomic_files import publish, written_aside
from tfserve.training.dataset.dataset_index import Findings, ImageFile, read
from tfserve.training.recipes.run import _on_this_machine


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
        assert request.parameters["warmStart"] == str(here / "models" / "old")
        derived = written(Path(request.findings).parent / "derived" / "unpacked" / "3.jpg")
        findings.project_dir = str(here)
        findings.images = [ImageFile(str(derived), 1, 1, grey=False, digest="d")]
        findings.write(Path(request.findings))
        return ProjectExamined(
            problems=[f"{here}/images is small"], skipped=[], skipped_count=0, image_count=1, classes=[]
        )

    request = ExamineProject(
        project_dir=str(project), train_type="classification", findings=str(task / "findings.json"),
        parameters={"weights": str(weights), "warmStart": str(project / "models" / "old")}, roots=[str(tmp_path)],
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
