"""Trainings that start from the model of an earlier task: which one, what is copied, and what is measured."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import digit_project, photograph_project
from sklearn.datasets import load_digits
from trainer import StartTrainer, Trainer

from tfserve.errors import Invalid
from tfserve.ipc.messages import JobState, ProjectExamined, TrainingEnded
from tfserve.training.dataset.dataset_index import Findings, ImageFile
from tfserve.training.fit import earlier_models, linear_head, warm_start
from tfserve.training.fit.earlier_models import Earlier, Learnt
from tfserve.training.fit.folds import divide
from tfserve.training.fit.warm_start import WarmStart
from tfserve.training.recipes import parameters


def earlier(labels: list[str], display: list[str] | None = None, learnt: Learnt | None = None) -> Earlier:
    return Earlier(Path("/p/models/t1"), "classification", "compact", labels, display or labels, learnt)


def found(labels: list[str], digests: dict[str, int]) -> Findings:
    """`digests` of images, each with its class."""
    images = [ImageFile(f"{digest}.png", 8, 8, True, digest, label) for digest, label in digests.items()]
    return Findings(
        train_type="classification", project_dir="/p", labels=labels, numbers=[*range(len(labels))], images=images,
        skipped=[], problems=[], display=labels,
    )  # fmt: skip


def result(folder: Path, **changes: Any) -> Path:
    """What a finished task leaves, as far as a warm start looks at it."""
    folder.mkdir(parents=True)
    metrics = {"train_type": "classification", "labels": ["a", "b"], "network": {"backbone": "compact"}} | changes
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    return folder


# --- which model


def test_classes_are_matched_by_display_name_then_by_label_and_each_only_once() -> None:
    model = earlier(["class 1", "cup", "size"], ["猫", "Cup", "Größe"])
    assert model.number_of(["cup", "class 1", "other"], ["Cup", "犬", "Other"]) == [1, 0, None]
    assert model.number_of(["class 1", "class 2"], ["犬", "猫"]) == [None, 0], (
        "猫 is the first class of the earlier model"
    )
    assert model.number_of(["size"], ["Gro\u0308ße"]) == [2], "in any Unicode normal form"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no model of a finished task"),
        (lambda folder: (folder / "metrics.json").write_text('{"labels": 3}'), "no model of a finished task"),
        (lambda folder: (folder / "model.keras").unlink(), r"has no intact model\.keras"),
        (lambda folder: (folder / "model.keras").write_bytes(b"PK cut off"), r"has no intact model\.keras"),
    ],
)
def test_a_model_that_is_gone_or_damaged_is_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    folder = result(tmp_path / "models" / "t1")
    assert earlier_models.find(tmp_path, "t1", "classification").labels == ["a", "b"]
    assert earlier_models.find(tmp_path, str(folder), "classification").task_id == "t1"
    change(folder)
    with pytest.raises(Invalid, match=message):
        earlier_models.find(tmp_path, "t1", "classification")


def test_a_model_that_does_not_fit_the_training_is_refused(tmp_path: Path) -> None:
    result(tmp_path / "models" / "masks", train_type="segmentation")
    result(tmp_path / "models" / "small")
    result(tmp_path / "models" / "known", network={"backbone": "efficientnet-lite0"})
    fits = {"warmStart": "small", "backbone": "auto", "weights": "auto"}

    def problem(**changes: str) -> str:
        return " ".join(earlier_models.problems(tmp_path, fits | changes, "classification"))

    assert problem() == problem(warmStart="known") == problem(warmStart="none") == ""
    assert "the train type of task masks is segmentation, but this is a classification" in problem(warmStart="masks")
    assert "did you mean 'small'" in problem(warmStart="smal")
    assert "whose weights do not fit backbone MobileNetV2" in problem(backbone="MobileNetV2")
    assert "Give only one of them" in problem(warmStart="known", weights="/w.pth")
    same = found(["a"], {})
    with pytest.raises(Invalid, match="its own result"):
        warm_start.begin(tmp_path, fits, same, "small")


def test_the_id_of_a_task_stays_text_even_if_it_looks_like_a_number() -> None:
    assert parameters.parsed("classification", "warmStart", "1234567890123456") == "1234567890123456"
    assert parameters.parsed("classification", "warmStart", "12e4567890123456") == "12e4567890123456"
    assert parameters.parsed("classification", "epochs", "12") == 12
    assert parameters.parsed("classification", "mirror", "true") is True


# --- what is measured


def test_images_that_the_model_knows_are_never_held_out_if_there_are_enough_others() -> None:
    known = {f"old{n}": n % 2 for n in range(40)}
    fresh = {f"new{n}": n % 2 for n in range(20)}
    now = found(["a", "b"], known | fresh)
    warm = WarmStart(earlier(["a", "b"], learnt=Learnt([*known])), now)
    images = warm.separated(now.images)
    assert warm.measures_unseen
    held_out = {images[at].digest for fold in divide(images, 0.2, 1).folds for at in fold.held_out}
    assert held_out == {*fresh}
    assert len(divide(images, 0.2, 1).folds[0].training) == 56


def test_without_enough_new_images_the_report_says_that_known_ones_were_measured() -> None:
    known = {f"old{n}": n % 2 for n in range(40)}
    now = found(["a", "b", "c"], known | {f"new{n}": 2 for n in range(20)})
    warm = WarmStart(earlier(["a", "b"], learnt=Learnt([*known])), now)
    assert warm.separated(now.images) == now.images
    assert not warm.measures_unseen
    uses = warm_start.Uses(warm, "compact", now.images[30:50])
    assert uses.report() == "task t1, from which it started, was trained on 10 of the 20 measured images"
    assert warm.report["classes_new"] == ["c"]
    frozen = WarmStart(earlier(["a", "b"], learnt=Learnt([*known], frozen=True)), now)
    assert not warm_start.Uses(frozen, "compact", now.images).report(), "features that were not trained know no image"
    assert not warm_start.Uses(warm, "efficientnet-lite0", now.images).report(), "nothing of it was delivered"


def test_what_was_learnt_from_includes_what_the_earlier_model_knew(tmp_path: Path) -> None:
    now = found(["a"], {"x": 0, "y": 0})
    warm_start.remember(tmp_path, now.images, None, frozen=True)
    first = earlier_models.learnt_in(tmp_path)
    assert first == Learnt(["x", "y"], frozen=True)
    warm = WarmStart(earlier(["a"], learnt=Learnt(["w"], frozen=False)), now)
    warm_start.remember(tmp_path, now.images, warm, frozen=True)
    assert earlier_models.learnt_in(tmp_path) == Learnt(["w", "x", "y"], frozen=False)


# --- what is copied


def test_a_strong_penalty_keeps_the_earlier_head_and_a_weak_one_learns() -> None:
    features, labels = load_digits(return_X_y=True)
    features, ones = features.astype(np.float32), np.ones(len(labels))
    known = linear_head.heads(features, labels, 10, weights=ones, penalties=(1e-4,))[0]
    few = np.arange(0, 40)
    kept, learnt = linear_head.heads(
        features[few], labels[few], 10, weights=ones[few], penalties=(1e4, 1e-4), prior=known
    )
    fresh = linear_head.heads(features[few], labels[few], 10, weights=ones[few])

    def accuracy(head: linear_head.HeadWeights) -> float:
        return float((head.probabilities(features[500:]).argmax(1) == labels[500:]).mean())

    assert accuracy(kept) > 0.9 > max(map(accuracy, fresh))
    assert np.abs(kept.kernel - known.kernel).max() < 0.01 < np.abs(learnt.kernel - known.kernel).max()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_layers_are_copied_by_name_and_outputs_by_class(tmp_path: Path) -> None:
    from tfserve.training.fit import backbones

    folder = result(tmp_path / "models" / "t1", labels=["a", "b"])
    old = backbones.compact((32, 32), 2, grey=False)
    backbones.with_probabilities(old).save(folder / "model.keras")
    now = found(["b", "new", "a"], {})
    warm = WarmStart(earlier_models.find(tmp_path, "t1", "classification"), now)
    model = backbones.compact((64, 64), 3, grey=False)  # one halving more, so the last layers are other ones
    warm.fill(model)
    first, last = old.layers[2].get_weights()[0], old.get_layer("logits").get_weights()[0]
    assert (model.layers[2].get_weights()[0] == first).all()
    assert warm.report["layers_copied"] < warm.report["layers"]
    assert (warm.report["classes_kept"], warm.report["classes_new"]) == (["b", "a"], ["new"])

    same = backbones.compact((32, 32), 3, grey=False)
    fresh = same.get_layer("logits").get_weights()[0]
    warm.fill(same)
    kernel = same.get_layer("logits").get_weights()[0]
    assert (kernel[:, 0] == last[:, 1]).all()
    assert (kernel[:, 1] == fresh[:, 1]).all()
    assert (kernel[:, 2] == last[:, 0]).all()
    assert warm.report["layers_copied"] == warm.report["layers"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_a_detector_keeps_all_layers_and_the_scores_of_its_classes(tmp_path: Path) -> None:
    from tfserve.training.fit import detector

    folder = result(tmp_path / "models" / "t1", train_type="detection", labels=["a", "b"])
    old, new = detector.detector((64, 64), 2, None), detector.detector((96, 64), 3, None)
    detector.detections(old).save(folder / "model.keras")
    warm = WarmStart(earlier_models.find(tmp_path, "t1", "detection"), found(["new", "b", "a"], {}))
    warm.fill(new)
    assert warm.report["layers_copied"] == warm.report["layers"] > 60
    ours, theirs = (each.get_layer("head8_logits").get_weights()[0] for each in (new, old))
    assert (ours[..., 1:] == theirs[..., ::-1]).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_continues_from_an_earlier_one_with_a_new_class(tmp_path: Path, start_trainer: StartTrainer) -> None:
    quick = {"exports": "saved_model", "effort": "fast", "backbone": "compact", "epochs": 4, "validation_split": 0.5}
    project = digit_project(tmp_path / "project", classes=2, per_class=100)
    trainer = start_trainer()
    assert trainer.train(project, **quick).state is JobState.SUCCEEDED, trainer.stderr()
    shutil.rmtree(project / "images")
    digit_project(project, classes=3, per_class=150)
    ended = _train(trainer, project, "t2", warmStart="t1", **quick)
    told = ended.metrics["warm_start"]
    assert (told["task"], told["reused"], told["measured_on_known_images"]) == ("t1", True, False)
    assert (told["classes_kept"], told["classes_new"]) == (["Digit_0", "Digit_1"], ["Digit_2"])
    assert told["layers_copied"] == told["layers"]
    readme = (project / "models" / "t2" / "README.md").read_text()
    assert "continued from the compact network of task t1" in readme
    metrics = json.loads((project / "models" / "t2" / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.9


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backbone", ["unet", pytest.param("efficientnet-lite0", marks=pytest.mark.long)])
def test_a_segmentation_continues_with_more_images_and_a_new_class(
    tmp_path: Path, start_trainer: StartTrainer, backbone: str
) -> None:
    quick = {"exports": "saved_model", "effort": "fast", "backbone": backbone, "epochs": 6}
    project = photograph_project(tmp_path / "project", count=24, kinds=1)
    trainer = start_trainer()
    assert trainer.train(project, "segmentation", **quick).state is JobState.SUCCEEDED, trainer.stderr()
    for name in ("images", "labels"):
        shutil.rmtree(project / name)
    photograph_project(project, count=48)
    ended = _train(trainer, project, "t2", kind="segmentation", warmStart="t1", **quick)
    told = ended.metrics["warm_start"]
    assert (told["task"], told["reused"]) == ("t1", True)
    assert told["layers"] > 10
    assert told["layers_copied"] >= told["layers"] - 1, "linear heads on frozen maps are not continued"
    assert told["classes_new"] == ["value 2"]
    assert ended.metrics["mean_iou"] > 0.3


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_known_network_keeps_its_own_weights(tmp_path: Path, start_trainer: StartTrainer) -> None:
    project = digit_project(tmp_path / "project", classes=2, per_class=24)
    quick = {"exports": "saved_model", "effort": "fast"}
    trainer = start_trainer()
    assert trainer.train(project, **quick).state is JobState.SUCCEEDED, trainer.stderr()
    shutil.rmtree(project / "images")
    digit_project(project, classes=3, per_class=60)
    ended = _train(trainer, project, "t2", warmStart="latest", **quick)
    told = ended.metrics["warm_start"]
    assert told["reused"]
    assert told["layers_copied"] == told["layers"] > 40
    assert ended.metrics["balanced_accuracy"] > 0.9


def _train(trainer: Trainer, project: Path, task: str, *, kind: str = "classification", **chosen: Any) -> Any:
    assert isinstance(examined := trainer.examine(project, kind, **chosen), ProjectExamined)
    assert not examined.problems
    ended = trainer.wait(trainer.start_training(project, kind, task=task, **chosen), TrainingEnded)
    assert ended.state is JobState.SUCCEEDED, trainer.stderr()
    assert ended.metrics is not None
    return ended
