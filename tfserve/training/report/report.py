"""The report of a run: metrics.json for programs, README.md for people."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tfserve.training.atomic_files import is_disk_full
from tfserve.training.export import web_page
from tfserve.training.export.exports import Export
from tfserve.training.fit.checkpoints import State
from tfserve.training.recipes.run import ENLARGE, METRICS_FILE, RecipeRun
from tfserve.training.report import mask_examples

MAX_SKIPPED = 1000
LESS_IMPORTANT = (web_page.FOLDER, mask_examples.FOLDER, "plots", "logs")
"""Optional folders of a result."""

_ANSWERS = {
    "classification": "`label` and `probabilities`",
    "segmentation": "`mask`, in the size of the image",
    "detection": "`boxes` in pixels of the image (left, top, right, bottom), `scores`, `labels` and `count`",
}


def write(
    run: RecipeRun, evaluation: dict[str, Any], exports: Sequence[Export], network: dict[str, Any], *,
    state: State | None, counts: dict[str, Any], more: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Writes labels.txt, metrics.json and README.md, and returns what metrics.json says.

    `counts` are numbers of images, with `held_out` and `measured_on`; `more` are further entries of the metrics.
    """
    found, state = run.findings, state or State(fingerprint="", epochs=0)
    metrics = {
        "task_id": run.task_id, "train_type": found.train_type, **more, **evaluation,
        **({} if run.warm is None else {"warm_start": run.warm.report}),
        "labels": found.labels, "display": found.display, "numbers": found.numbers, "ignore": found.ignore,
        "layout": found.layout, "remarks": found.remarks, "network": network,
        "images": {**counts, "skipped": len(found.skipped)},
        "epochs": {"wanted": state.epochs, "trained": state.epoch, "best": state.best_epoch, "history": state.history},
        "exports": [msgspec.to_builtins(each) for each in exports],
        "parameters": run.parameters, "notes": run.notes, "versions": _versions(),
        "skipped": [msgspec.to_builtins(each) for each in found.skipped[:MAX_SKIPPED]],
        "stages": run.clock.report(),
        "attempt_s": round(time.time() - run.began_at, 1),
    }  # fmt: skip
    if state.history:
        with run.optional("logs/"):
            _write_events(run.aside / "logs", state)
    for name, lines in (("labels.txt", found.labels), ("display_names.txt", found.display)):
        _write(run, name, partial("\n".join, [*lines, ""]))
    with run.optional(f"The page for browsers ({web_page.FOLDER}/)"):
        _write_web_page(run, exports)
    with run.optional("README.md"):
        _write(run, "README.md", lambda: _readme(run, metrics))
    _write(run, METRICS_FILE, lambda: json.dumps(metrics, indent=1))
    return metrics


def _write(run: RecipeRun, name: str, content: Callable[[], str]) -> None:
    """Writes a required file. On a full disk, optional folders are removed one by one."""
    for less in (*LESS_IMPORTANT, None):
        try:
            (run.aside / name).write_text(content(), encoding="utf-8")
            return
        except OSError as error:
            if not is_disk_full(error):
                raise
            (run.aside / name).unlink(missing_ok=True)
            if less is None:
                raise
            if (run.aside / less).exists():
                shutil.rmtree(run.aside / less)
                run.note(f"{less}/ was removed because the disk is full.")


def _write_web_page(run: RecipeRun, exports: Sequence[Export]) -> None:
    """A page to try the ONNX form in a browser."""
    onnx = next((each for each in exports if each.path.endswith(".onnx") and each.agrees), None)
    if onnx is None:
        return
    found = run.findings
    title, about = run.project.name, f"{found.train_type.capitalize()}: {', '.join(found.display or found.labels)}"
    try:
        web_page.write(
            run.aside / web_page.FOLDER, run.aside / onnx.path, run.image(),
            title=title, about=about, display=found.display,
        )  # fmt: skip
    except OSError:
        shutil.rmtree(run.aside / web_page.FOLDER, ignore_errors=True)  # an incomplete page is useless
        raise


def _write_events(folder: Path, state: State) -> None:
    """The history as TensorBoard reads it: a scalar for each metric and epoch. TensorFlow's own writer needs it."""
    import tensorflow as tf
    from tensorflow.core.framework.summary_pb2 import Summary
    from tensorflow.core.util.event_pb2 import Event

    folder.mkdir(parents=True, exist_ok=True)
    began_at = state.ended_at[0] if state.ended_at else 0.0
    with tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{int(began_at)}.tfserve")) as writer:
        writer.write(Event(wall_time=began_at, file_version="brain.Event:2").SerializeToString())
        for name, series in state.history.items():
            for step, (value, ended_at) in enumerate(zip(series, state.ended_at, strict=False), start=1):
                scalar = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                writer.write(Event(wall_time=ended_at, step=step, summary=scalar).SerializeToString())


def _readme(run: RecipeRun, metrics: dict[str, Any]) -> str:
    parts = (
        [f"# {metrics['train_type'].capitalize()} of {run.project.name}", ""],
        _what(run, metrics),
        ["", "## Quality", "", *_how_good(metrics), ""],
        ["## Files", "", *_what_is_here(metrics), ""],
        ["## Usage", "", *_how_to_use(run), ""],
        ["## Training details", "", *_how_it_came_about(run, metrics)],
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _what(run: RecipeRun, metrics: dict[str, Any]) -> list[str]:
    verdict = [f"**Verdict: {metrics['verdict']}.**", ""] if "verdict" in metrics else []
    return [
        *verdict,
        f"Trained by TFserve (task {run.task_id}) on {metrics['images']['training']} images of `{run.project}`."
        f" {_measured_on(metrics)}",
        "",
        f"Layout of the project: {run.findings.layout}.",
        "",
        f"Labels, in the order of the outputs: {', '.join(_labels(run))}.",
    ]


def _measured_on(metrics: dict[str, Any]) -> str:
    """The source of the figures, in a sentence."""
    count, measured_on = metrics["images"]["held_out"], metrics.get("measured_on", "held-out part")
    if measured_on == "test part":
        return f"All figures come from the {count} images of the project's test part, which were not used for training."
    if metrics["train_type"] == "detection":
        learnt = metrics["learnt_from"] == "all images"
        after = " The model was then trained further on all images, so it should not be worse." if learnt else ""
        return (
            f"All figures come from {count} images ({measured_on}) that had not been used for training at that"
            f" point.{after}"
        )
    if "measured_on" not in metrics:
        return f"All figures come from {count} held-out images."
    return (
        f"All figures come from {count} images ({measured_on}), on which models of the same type that were trained"
        " without them were measured. The delivered model was also trained on these images, so it should not be worse."
    )


def _labels(run: RecipeRun) -> list[str]:
    """Each label, with the name as the user writes it where that says more."""
    both = zip(run.findings.labels, run.findings.display, strict=True)
    return [label if label == display else f"{label} ({display})" for label, display in both]


def _how_good(metrics: dict[str, Any]) -> list[str]:
    per_class = metrics["per_class"]
    columns = list(per_class[0])
    if "accuracy" in metrics:
        error = metrics["calibration"]["expected_calibration_error"]
        low, high = metrics["verdict_details"]["interval"]
        headline = (
            f"Accuracy **{metrics['accuracy']:.4f}** (95 % interval {low:.3f} to {high:.3f}), balanced accuracy"
            f" {metrics['balanced_accuracy']:.4f}, macro F1 {metrics['macro_f1']:.4f}, calibration {error:.3f}."
        )
    elif "map50" in metrics:
        headline = (
            f"mAP50 **{metrics['map50']:.4f}**, mAP {metrics['map']:.4f} (IoU"
            f" 0.50 to 0.95). With boxes from a score of {metrics['best_score']:.2f}: precision"
            f" {metrics['precision']:.3f}, recall {metrics['recall']:.3f}."
        )
    else:
        headline = (
            f"Mean IoU **{metrics['mean_iou']:.4f}**, mean Dice {metrics['mean_dice']:.4f} (without the background)."
        )
    rows = ([_cell(each[column]) for column in columns] for each in per_class)
    return [headline, "", *_table(columns, rows), "", *_candidates(metrics), "Plots are in `plots/`."]


def _candidates(metrics: dict[str, Any]) -> list[str]:
    if "candidates" not in metrics:
        return []
    rows = (
        [
            f"**{each['name']}**" if each["chosen"] else each["name"], _cell(each["score"]), _cell(each["spread"]),
            str(each["folds"]), _cell(each["seconds"]), "delivered" if each["chosen"] else each["skipped"] or "",
        ]
        for each in metrics["candidates"]
    )  # fmt: skip
    score = "mean IoU" if metrics["train_type"] == "segmentation" else "balanced accuracy"
    columns = ["candidate", score, "± over folds", "folds", "seconds", ""]
    return ["Candidates on the same folds:", "", *_table(columns, rows), ""]


def _what_is_here(metrics: dict[str, Any]) -> list[str]:
    rows = (
        [
            each["name"], f"`{each['path']}`", _kib(each.get("size_bytes")), _cell(each.get("latency_ms")),
            "yes" if each.get("agrees") else "**no**", each.get("problem", ""),
        ]
        for each in metrics["exports"]
    )  # fmt: skip
    return _table(["form", "file", "KiB", "ms per image", "same as the original", ""], rows)


def _how_to_use(run: RecipeRun) -> list[str]:
    kind = run.findings.train_type
    return [*_deployment(run, kind), *(_full_size(run) if kind == "segmentation" else [])]


def _full_size(run: RecipeRun) -> list[str]:
    """How to get probabilities, and masks from the small forms."""
    height, width = run.parameters["network_size"]
    return [
        "",
        "`mask` has the size of the image. `signature: probabilities` of the SavedModel takes the same float images and"
        f" gives `probabilities` (count, height, width, {len(run.findings.labels)}) in the size of the input images.",
        f"The output of the Keras, LiteRT and ONNX forms is `probabilities` (1, {height}, {width},"
        f" {len(run.findings.labels)}). To get a mask for the image: {ENLARGE}. This server does this for image files.",
    ]


def _deployment(run: RecipeRun, kind: str) -> list[str]:
    return [
        "Deploy `saved_model`; `signature: image_bytes` takes encoded images (`image_bytes`) and returns"
        f" {_ANSWERS[kind]}."
        " `serving_default` takes float images (count, height, width, 3), RGB, 0 to 255, of any size.",
        "The other forms can be deployed in the same way and also take image files: their size, scaling and labels are"
        " in the `.image.json` file next to each form, in the ONNX file's properties and in the LiteRT file's metadata."
        f" As numbers they take images of one size, {'x'.join(map(str, run.parameters['network_size']))} (height x"
        " width), RGB, 0 to 255. All of them include the scaling. Orientation tags of photographs are applied and"
        " transparency is composited over the background wherever this server or `image_bytes` reads files. Outside"
        " this server, `image_bytes` reads JPEG, PNG, GIF, BMP and WebP.",
        *_about_web_page(run),
        "`saved_model/assets.extra/held_out_images.zip` contains a few of the held-out images, with which the server"
        " finds the fastest runtime that gives the same results. Remove it if these images must not be distributed.",
    ]


def _about_web_page(run: RecipeRun) -> list[str]:
    if not (run.aside / web_page.FOLDER).is_dir():
        return []
    return [
        "`web/` is a page that runs the ONNX form in a browser, on camera frames or files. Any static web server can"
        " serve it (`python3 -m http.server -d web`). Browsers allow camera access only to pages on `https://` or"
        " `localhost`."
    ]


def _how_it_came_about(run: RecipeRun, metrics: dict[str, Any]) -> list[str]:
    epochs, skipped = metrics["epochs"], Counter(each.reason.partition(":")[0] for each in run.findings.skipped)
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
    chosen = ", ".join(f"{name} {value}" for name, value in run.parameters.items())
    return [
        *(f"- {note}" for note in (*run.findings.remarks, *run.notes)),
        *([f"- {epochs['trained']} of {epochs['wanted']} epochs were completed."] if epochs["wanted"] else []),
        f"- Skipped files: {reasons or 'none'}. They are listed in `{METRICS_FILE}`.",
        f"- Parameters: {chosen}.",
        f"- {', '.join(f'{name} {version}' for name, version in metrics['versions'].items())}.",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)


def _kib(size: int | None) -> str:
    return "" if size is None else str(-(-size // 1024))


def _versions() -> dict[str, str]:
    import keras
    import tensorflow as tf

    from tfserve import __version__

    return {"tfserve": __version__, "tensorflow": tf.__version__, "keras": keras.__version__}
