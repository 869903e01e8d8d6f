"""Measures trainings, from the POST to `done`: how good, how long, what it takes of the machine.

make bench-training                                 all of it, about an hour and a half
make bench-training ARGS="--quick"                  smaller data and fewer repetitions
make bench-training ARGS="sets"                     other people's images beside other methods; needs
                                                    tuxpaint-stamps-default (apt), elpv-dataset (pip) and fonts
make bench-training ARGS="digits photographs"       some rows
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks import detection_data, image_sets, training_data
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tables import Row, show
from benchmarks.training_run import MIB, Measured, train

BATCH_SIZE = 32
POLLS_PER_S = 20

console = Console()


def main() -> None:
    steps: dict[str, Callable[[Path, bool], list[Row]]] = {
        each.__name__: each for each in (sets, digits, photographs, segmentation, detection, polling, memory)
    }
    parser = argparse.ArgumentParser(
        prog="benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"{', '.join(steps)} (all)")
    parser.add_argument("--quick", action="store_true", help="smaller data and fewer repetitions")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(steps):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(steps)}")
    chosen = [name for name in steps if name in (options.rows or steps)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as name, Progress(console=console) as progress:
        bar = progress.add_task("measuring", total=len(chosen))
        for step in chosen:
            progress.update(bar, description=step)
            folder = Path(name) / step
            folder.mkdir()
            rows += steps[step](folder, options.quick)
            console.print(*rows[-2:], sep="\n")  # so that they are not lost with a row that fails
            progress.advance(bar)
    show(console, rows)


# --- the rows


def sets(folder: Path, quick: bool) -> list[Row]:
    """Other people's images, beside what an engineer would try by hand."""
    return [row for seed in ((2,) if quick else (2, 3)) for row in image_sets.rows(folder / str(seed), seed)]


def digits(folder: Path, quick: bool) -> list[Row]:
    """How good and how fast the smallest useful task is."""
    project = folder / "digits"
    training_data.digits(project, per_class=60 if quick else None)
    with _server(folder) as server:
        measured = train(server, project)
    accuracy = f"{measured.metrics['accuracy']:.4f} in {measured.total_s:.0f} s"
    return [
        ("digits: 10 classes of 28×28 PNG files, 70/30, from POST to `done`", accuracy, "≥ 0.98 in ≤ 60 s"),
        _cores("digits", measured),
    ]


def photographs(folder: Path, quick: bool) -> list[Row]:
    """Beside a plain script with the same network, the same share held out and the same epochs."""
    project = folder / "photographs"
    training_data.photographs(project, per_class=40 if quick else 200)
    with _server(folder) as server:
        ours = train(server, project, batch_size=BATCH_SIZE)
    wanted = _metrics_file(project, ours)["epochs"]["wanted"]
    plain = _plain_keras(project, wanted)
    told = (
        f"{ours.metrics['accuracy']:.4f} in {ours.total_s:.0f} s, of which fitting {ours.fit_s:.0f} s"
        f" ({ours.metrics['epochs']} epochs); plain {plain['accuracy']:.4f} in {plain['total_s']:.0f} s, of which"
        f" fitting {plain['fit_s']:.0f} s ({plain['epochs']} epochs)"
    )
    what = "photographs: 8 classes of 64×64 patches, beside a plain Keras script with the same network"
    return [(what, told, "as accurate, no slower"), _cores("photographs", ours)]


def segmentation(folder: Path, quick: bool) -> list[Row]:
    """Digits composed on two photographs."""
    project = folder / "segmentation"
    count = 80 if quick else 400
    training_data.segmentation(project, count=count)
    with _server(folder) as server:
        measured = train(server, project, "segmentation")
    told = f"IoU {measured.metrics['mean_iou']:.3f}, Dice {measured.metrics['mean_dice']:.3f}"
    what = f"segmentation: digits on two photographs, {count} images of 128×128, from POST to `done`"
    return [
        (what, f"{told} in {measured.total_s:.0f} s", "IoU ≥ 0.85 in ≤ 4 min"),
        _cores("segmentation", measured),
    ]


def detection(folder: Path, quick: bool) -> list[Row]:
    """Shapes composed on photographs; measured on images whose backgrounds were never seen."""
    project, test = folder / "detection", folder / "test"
    count = 60 if quick else 300
    detection_data.detection(project, count=count)
    detection_data.detection(test, count=100, seed=9, right=True)
    with _server(folder) as server:
        measured = train(server, project, "detection")
        unseen = detection_data.measure(server, project, test)
    held_out = f"mAP50 {measured.metrics['map50']:.3f}, mAP {measured.metrics['map']:.3f}"
    value = f"{unseen} on 100 images with other backgrounds ({held_out} held out) in {measured.total_s:.0f} s"
    what = f"detection: 5 shapes on photographs, {count} images of 256×256, from POST to `done`"
    return [(what, value, "mAP50 ≥ 0.85 in ≤ 15 min"), _cores("detection", measured)]


def polling(folder: Path, quick: bool) -> list[Row]:
    """The same run with and without a back-end that asks all the time, in turn."""
    project = folder / "digits"
    training_data.digits(project, per_class=60)
    pairs = []
    with _server(folder) as server:
        for seed in range(2 if quick else 5):
            chosen = {"epochs": 20, "patience": 1000, "exports": "saved_model", "seed": seed}
            quiet = train(server, project, **chosen)
            asked = train(server, project, polls_per_s=POLLS_PER_S, **chosen)
            pairs.append((quiet.total_s, asked.total_s))
    ratios = [asked / quiet for quiet, asked in pairs]
    quiet_s = statistics.median(quiet for quiet, _ in pairs)
    told = (
        f"{(statistics.median(ratios) - 1) * 100:+.1f} % (median of {len(pairs)} pairs of runs of {quiet_s:.0f} s,"
        f" {(min(ratios) - 1) * 100:+.1f} to {(max(ratios) - 1) * 100:+.1f})"
    )
    return [(f"cost of {POLLS_PER_S} polls a second", told, "< 3 %")]


def memory(folder: Path, quick: bool) -> list[Row]:
    """Of the train worker, which must not hold all images."""
    peaks = []
    counts = (2000, 8000) if quick else (5000, 20_000)
    with _server(folder) as server:
        for count in counts:
            project = folder / f"photographs-{count}"
            training_data.photographs(project, per_class=count // 8)
            peaks.append(train(server, project, epochs=1).peak_bytes // MIB)
    told = f"{peaks[0]} MiB with {counts[0]} images, {peaks[1]} MiB with {counts[1]}"
    return [("peak memory of the train worker, photographs of 64×64, one epoch, all exports", told, "does not grow")]


# --- parts


def _server(folder: Path) -> ServerProcess:
    """Without a warm spare, so that the import of TensorFlow is a part of what is measured."""
    return ServerProcess(folder, "--no-warm-spare")


def _cores(name: str, measured: Measured) -> Row:
    return (f"{name}: share of both cores while fitting", f"{measured.core_share:.0%}", "told")


def _metrics_file(project: Path, measured: Measured) -> dict[str, Any]:
    """The whole metrics.json."""
    file = project / "models" / measured.task["taskId"] / "metrics.json"
    metrics: dict[str, Any] = json.loads(file.read_text())
    return metrics


def _plain_keras(project: Path, epochs: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.plain_keras", str(project / "images")]
    command += ["--epochs", str(epochs), "--batch-size", str(BATCH_SIZE)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
