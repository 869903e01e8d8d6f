"""Checks the dataset in a project folder before the training: usable files, skipped files and all problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfserve import colours
from tfserve.errors import Invalid
from tfserve.training.dataset import (
    classified_project,
    detection_project,
    held_out_checks,
    image_remarks,
    segmented_project,
)
from tfserve.training.dataset.dataset_index import Findings
from tfserve.training.dataset.labels import INFO_FILE
from tfserve.training.dataset.project_folders import MODELS, Bounds, is_archive, problems_of_results
from tfserve.training.dataset.search import Search
from tfserve.training.fit import earlier_models, pretrained
from tfserve.training.recipes.parameters import LITE_NET

RECIPES = {
    "classification": classified_project.examine,
    "segmentation": segmented_project.examine,
    "detection": detection_project.examine,
}


def examine(
    project_dir: str,
    train_type: str,
    parameters: dict[str, Any],
    roots: Sequence[str] = (),
    *,
    work: Path | None = None,
) -> Findings:  # fmt: skip
    """Everything found in the project folder; with any `problems` in it there can be no training.

    `project_dir` may also be an archive. Links that lead outside `roots` are not followed; without roots all are.
    What has to be unpacked or converted is put into the folder `work`, and must stay there until the training is over.
    """
    threads = max(2, int(parameters.get("threads", 2)))
    background = colours.colour(parameters.get("background", "white"))
    search = Search(Path(project_dir), threads=threads, bounds=Bounds(roots), work=work, background=background)
    search.problems += _problems_of_backbone(train_type, parameters)
    search.problems += _problems_of_warm_start(search, parameters, train_type)
    search.problems += search.bounds.problems(search.results / MODELS) + problems_of_results(search.results)
    if outside := search.problems_of_places("images", "labels", INFO_FILE):
        search.problems += outside
    elif not search.project.is_dir() and not (is_archive(search.project) and search.project.is_file()):
        search.problems.append(f"{search.project} is neither a folder nor a zip or tar file on this server.")
    else:
        RECIPES[train_type](search, parameters)
    search.check_share_of_bad()
    has_named_groups = any(image.group for image in search.images)
    image_remarks.review(search)
    held_out_checks.check(search, train_type, has_named_groups=has_named_groups)
    return Findings(
        train_type=train_type, project_dir=project_dir, labels=search.labels, numbers=search.numbers,
        images=search.images, skipped=search.skipped, problems=search.problems, display=search.display,
        layout=search.layout, remarks=search.remarks, ignore=search.ignore,
    )  # fmt: skip


def _problems_of_warm_start(search: Search, parameters: dict[str, Any], train_type: str) -> list[str]:
    given = parameters.get(earlier_models.PARAMETER, earlier_models.NONE)
    outside = search.bounds.problems(earlier_models.folder_of(search.results, given))
    return outside or earlier_models.problems(search.results, parameters, train_type)


def _problems_of_backbone(train_type: str, parameters: dict[str, Any]) -> list[str]:
    """The problems of a training whose weights are missing."""
    try:
        if "weights" in parameters or parameters.get("backbone") == LITE_NET:
            choose = pretrained.choose_for_masks if train_type == "segmentation" else pretrained.choose
            choose(parameters["backbone"], parameters.get("weights", "auto"))
    except Invalid as error:
        return [error.message]
    return []
