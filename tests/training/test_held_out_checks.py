"""Whether images can be held out although groups stay together: problems, remarks and verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from layout_projects import blocks, class_folders, examined, good, palette_mask, pictures
from projects import noise

from tests.box_project import box_project
from tfserve.training.dataset.dataset_index import Box, Findings, ImageFile
from tfserve.training.dataset.splitting import rarest_labels
from tfserve.training.fit.earlier_models import Earlier, Learnt
from tfserve.training.fit.folds import divide, divide_loosely, may_be_held_out
from tfserve.training.fit.warm_start import WarmStart
from tfserve.training.report import detection_metrics, evaluation, mask_verdict, verdict


def image(label: int, group: str = "", part: str = "", *, boxes: tuple[int, ...] = ()) -> ImageFile:
    known = tuple(Box(each, 0, 0, 4, 4) for each in boxes)
    return ImageFile("a.png", 8, 8, False, "", label, part=part, group=group, boxes=known)


# --- folds


@pytest.mark.parametrize("seed", range(12))
def test_what_may_be_held_out_is_what_the_folds_hold_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    found = [
        image(
            int(random.integers(3)), ("", "a", "b", "c", "d")[random.integers(5)], ("", "", "train")[random.integers(3)]
        )
        for _ in range(int(random.integers(4, 30)))
    ]
    folds = divide(found, 0.2, seed)
    held_out = {int(at) for fold in folds.folds for at in fold.held_out}
    allowed = {*may_be_held_out(found).tolist()}
    assert held_out <= allowed
    assert bool(held_out) == bool(allowed)


def test_images_of_several_classes_are_held_out_although_each_rare_class_is_in_one_group() -> None:
    found = [image(-1, "north")] * 5 + [image(-1, "south")] * 5
    rarest = [0] * 5 + [1] * 5
    folds = divide_loosely(found, rarest, 0.2, 1)
    assert {len(fold.held_out) for fold in folds.folds} == {5}
    alone = divide_loosely(found[:5], rarest[:5], 0.2, 1)
    assert len(alone.folds) == 0
    assert divide_loosely(found + [image(-1)] * 4, [0] * 5 + [1] * 9, 0.2, 1).folds[0].training.size > 0


def test_the_rarest_classes_of_many_images_are_found_at_once() -> None:
    found = [image(-1, boxes=(n % 500, 500)) for n in range(60_000)]
    assert rarest_labels(found)[:2] == [0, 1]


def test_new_images_that_look_like_known_ones_do_not_measure_a_continued_model() -> None:
    known = [ImageFile(f"{n}.png", 8, 8, False, f"old{n}", n % 2, group=f"scene {n % 6}") for n in range(30)]
    fresh = [ImageFile(f"n{n}.png", 8, 8, False, f"new{n}", n % 2, group=f"scene {n % 6}") for n in range(30)]
    found = Findings(
        train_type="classification", project_dir="/p", labels=["a", "b"], numbers=[0, 1], images=known + fresh,
        skipped=[], problems=[], display=["a", "b"],
    )  # fmt: skip
    learnt = Learnt([each.digest for each in known])
    warm = WarmStart(Earlier(Path("/p/models/t1"), "classification", "compact", ["a", "b"], ["a", "b"], learnt), found)
    assert warm.separated(found.images) == found.images
    assert not warm.measures_unseen
    assert len(divide(warm.separated(found.images), 0.2, 1).folds) > 0


# --- problems and remarks of a classification


def with_scenes(project: Path, scenes: dict[str, str]) -> Path:
    """A table with the scenes of the images, a letter for each."""
    rows = [f"{name}/{n:03d}.png,{name},{scene}" for name, each in scenes.items() for n, scene in enumerate(each)]
    class_folders(project, scenes, len(next(iter(scenes.values()))))
    (project / "labels.csv").write_text("\n".join(["file,label,scene", *rows]))
    return project


def test_classes_in_one_group_each_are_a_problem_that_names_them(tmp_path: Path) -> None:
    (problem,) = examined(with_scenes(tmp_path / "p", {"cat": "aaa", "dog": "bbb"})).problems
    assert "No image can be held out" in problem
    assert "'cat', 'dog'" in problem
    assert "groups to 'none'" in problem
    assert examined(tmp_path / "p", groups="none").problems == []


def test_photographs_of_one_scene_that_were_saved_twice_are_a_problem(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        folder = tmp_path / "p" / name
        folder.mkdir(parents=True)
        photograph = noise(number, (48, 48)).resize((96, 96))
        photograph.save(folder / "a.png")
        photograph.save(folder / "b.jpg", quality=92)
    (problem,) = examined(tmp_path / "p").problems
    assert "near-duplicates" in problem
    assert "groups to 'none'" not in problem, "it would change nothing"
    assert examined(tmp_path / "p", groups="none").problems == [problem]


def test_a_class_in_one_group_is_named_in_a_remark_if_others_can_be_measured(tmp_path: Path) -> None:
    found = good(with_scenes(tmp_path / "p", {"cat": "abc", "dog": "def", "owl": "ggg"}))
    (remark,) = [each for each in found.remarks if "never measured" in each]
    assert "'owl'" in remark
    assert "'cat'" not in remark
    held_out = {found.images[at].label for fold in divide(found.images, 0.2, 1).folds for at in fold.held_out}
    assert held_out == {0, 1}


def test_a_validation_part_is_measured_whatever_the_groups(tmp_path: Path) -> None:
    for part in ("train", "val"):
        class_folders(tmp_path / "p" / part, ("cat", "dog"))
    found = good(tmp_path / "p", groups=r"/(cat|dog)/")
    assert not any("never measured" in each for each in found.remarks)


def test_one_image_of_each_class_outside_of_the_test_part_can_not_be_measured(tmp_path: Path) -> None:
    for part, count in (("train", 1), ("test", 3)):
        class_folders(tmp_path / "p" / part, ("cat", "dog"), count)
    (problem,) = examined(tmp_path / "p").problems
    assert "each class has only one image or one group of images" in problem
    assert "outside of the part test" in problem


# --- of a segmentation and a detection


def test_masks_of_one_scene_are_a_problem_and_two_scenes_are_not(tmp_path: Path) -> None:
    for number, path in enumerate(pictures(tmp_path / "p" / "images", 6)):
        palette_mask(tmp_path / "p" / "labels" / path.name, blocks(0, 1 + number // 3))
    (problem,) = examined(tmp_path / "p", "segmentation", groups=r"(images)/").problems
    assert "all images are one group" in problem
    good(tmp_path / "p", "segmentation", groups=r"00([0-9])")


def renamed(project: Path, names: list[str]) -> Path:
    """The images of a COCO project with other names."""
    content = json.loads((project / "annotations.json").read_text())
    for each, name in zip(content["images"], names, strict=True):
        (project / "images" / each["file_name"]).rename(project / "images" / name)
        each["file_name"] = name
    (project / "annotations.json").write_text(json.dumps(content))
    return project


def test_copies_of_an_image_with_boxes_stay_on_one_side(tmp_path: Path) -> None:
    roboflow = [f"IMG_{n // 3}_jpg.rf.{n:016x}.png" for n in range(6)]
    augmented = ["cup.png", "cup_flip.png", "cup_rot90.png", "dish.png", "dish_blur.png", "plate.png"]
    found = good(renamed(box_project(tmp_path / "p", count=12), [*roboflow, *augmented]), "detection")
    groups = [each.group for each in found.images]
    by_name = {Path(each.path).name: each.group for each in found.images}
    assert len({by_name[name] for name in roboflow[:3]}) == len({by_name[name] for name in roboflow[3:]}) == 1
    assert by_name["cup.png"] == by_name["cup_flip.png"] == by_name["cup_rot90.png"] != by_name["dish.png"]
    assert by_name["dish.png"] == by_name["dish_blur.png"] != ""
    assert by_name["plate.png"] == ""
    folds = divide_loosely(found.images, rarest_labels(found.images), 0.2, 1)
    for fold in folds.folds:
        assert not {groups[at] for at in fold.training} & {groups[at] for at in fold.held_out} - {""}
    alone = good(tmp_path / "p", "detection", groups="none")
    assert {each.group for each in alone.images} == {""}


def test_tiles_of_a_large_picture_are_not_sizes_of_one_image(tmp_path: Path) -> None:
    tiles = [f"tile_{1000 + 256 * (n % 4)}x{1000 + 256 * (n // 4)}.png" for n in range(8)]
    found = good(renamed(box_project(tmp_path / "p", count=8), tiles), "detection")
    assert {each.group for each in found.images} == {""}


def test_boxes_of_one_scene_are_a_problem_and_a_class_of_one_group_is_a_remark(tmp_path: Path) -> None:
    project = box_project(tmp_path / "p", count=8)
    (problem,) = examined(project, "detection", groups="(images)/").problems
    assert "all images are one group" in problem
    content = json.loads((project / "annotations.json").read_text())
    content["categories"].append({"id": 9, "name": "Ring"})
    rings = [{"id": 900 + n, "image_id": n, "category_id": 9, "bbox": [4, 4, 20, 20]} for n in (0, 1)]
    content["annotations"] += rings
    (project / "annotations.json").write_text(json.dumps(content))
    assert not any("never measured" in each for each in good(project, "detection").remarks)
    renamed(project, ["cup.png", "cup_flip.png", *(f"{name}.png" for name in "bcdefg")])
    (remark,) = [each for each in good(project, "detection").remarks if "never measured" in each]
    assert "'Ring'" in remark
    assert "'Bright'" not in remark


def test_a_detection_that_is_measured_on_its_test_part_needs_no_folds(tmp_path: Path) -> None:
    project = tmp_path / "p"
    for part, numbers in (("train", range(4)), ("test", range(4, 8))):
        for name in ("images", "labels"):
            (project / part / name).mkdir(parents=True)
        for number in numbers:
            noise(number, (40, 60)).save(project / part / "images" / f"{number}.jpg")
            (project / part / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (project / "data.yaml").write_text("names: [cup]\nnc: 1\n")
    good(project, "detection", groups="(train|test)/")


# --- verdicts


def test_verdicts_name_classes_that_no_measured_image_shows() -> None:
    truth = np.array([0, 1] * 20)
    said = verdict.judge(truth, truth, ("cat", "dog", "owl"), images=[20, 20, 1])
    assert said.text == "good, but `owl` was not measured"
    assert (said.unmeasured, said.few_images) == (["owl"], ["owl"])
    masks = np.zeros((12, 32, 32), np.uint8)
    for number in range(12):
        masks[number, number : number + 12, number : number + 9] = 1
    matrix = evaluation.confusion(masks, masks, 4)
    labels = ["background", "ring", "dot", "line"]
    masks_said = mask_verdict.judge(matrix, 1.0, masks, masks, labels, images=[12] * 4)
    assert masks_said.unmeasured == ["dot", "line"]
    assert masks_said.text.endswith("but `dot`, `line` were not measured")
    rows = [{"label": "cup", "objects": 40, "ap50": 0.9}, {"label": "dish", "objects": 0, "ap50": 0.0}]
    assert detection_metrics.verdict(0.9, rows) == "good, but `dish` was not measured"
