"""The main job, end to end, on real handwritten digits: `make demo`.

Starts a server of its own, trains a network in a workspace, deploys it, predicts with it, measures, and then updates it
to a second version while predicting. This process is only a client: it knows HTTP and JSON, neither TensorFlow nor
Django. The same calls for other languages stand beside this file: workspace.sh, workspace.mjs and Workspace.java.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_parts.drawing import Reading, draw_in_terminal, draw_picture
from demo_parts.load import Load, Probabilities, Speed, measure, predicting, request_body
from demo_parts.server import ROOT, running_server
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tfserve_client import Client, Job

TRAIN_SCRIPT = ROOT / "examples" / "digits" / "train.py"
PICTURE = ROOT / "build" / "demo" / "digits.png"

#: The jobs of one workspace run one after the other. With two of them, one trains while the other goes on predicting.
TRAINER, PREDICTOR = "trainer", "predictor"

REQUIRED_ACCURACY = 0.97
TIMEOUT_S = 60.0
MEASURE_S = 3.0
CONNECTIONS_DURING_UPDATE = 4
#: made on each connection once the update is done, to see the new version answer
PREDICTIONS_AFTERWARDS = 50
#: Sums of float32 in another order, as in a batch of another size, differ by much less.
TOLERANCE = 1e-3

console = Console(highlight=False)


class DemoError(Exception):
    """Something that the demo promises did not come true."""


@dataclass(frozen=True)
class Training:
    """What the training script left in its workspace's variables, under these names."""

    version: int
    model_path: str
    accuracy: float
    held_out_path: str


@dataclass(frozen=True)
class HeldOut:
    """Images that the network has not seen in training, and the digits that they show."""

    images: list[list[list[float]]]
    labels: list[int]

    @classmethod
    def read(cls, path: str) -> HeldOut:
        return cls(**json.loads(Path(path).read_text()))


def run(url: str, picture: Path) -> None:
    with Client(url) as client:
        say(f"Server ready at {url}")
        wait_for_spare(client)
        for name in (TRAINER, PREDICTOR):
            client.create_workspace(name)
        first = train(client, "Training", show_output=True)
        held_out = HeldOut.read(first.held_out_path)

        require(client.deploy(PREDICTOR, first.model_path, timeout=TIMEOUT_S), "deploying the model")
        say(f"Deployed {first.model_path}")
        before = predict(client, held_out)
        report_accuracy(before, held_out)
        show(before, held_out, picture)

        bodies = request_bodies(held_out)
        report_speed([measure(url, bodies, connections=each, seconds=MEASURE_S) for each in (1, 32)])

        loads = update_while_predicting(url, client, bodies)
        report_update(loads, before, after=predict(client, held_out))
    require_light_client()


def wait_for_spare(client: Client) -> None:
    """Returns when a process with TensorFlow loaded is ready for the first job: the server tells."""
    server = client.server()
    while server["spare"] is None:
        server = client.server(server["revision"])
    say("A spare process has TensorFlow loaded")


def train(client: Client, title: str, *, show_output: bool) -> Training:
    """Run the training script as a job, and follow its output while it runs."""
    job = client.push_file(TRAINER, str(TRAIN_SCRIPT), timeout=0)  # 0: don't wait for the end, watch instead
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task(title, total=None)
        for line in lines(job.output(timeout=TIMEOUT_S)):
            epoch = re.match(r"epoch (\d+)/(\d+)", line)
            if epoch:
                progress.update(bar, completed=int(epoch[1]), total=int(epoch[2]))
            if show_output:
                progress.console.print("  " + line, style="dim", markup=False, soft_wrap=True)
    if job.error is not None:
        raise DemoError(f"the training script failed:\n{job.error.traceback or job.error.message}")
    training = Training(**client.get_variable(TRAINER, list(Training.__annotations__)))
    say(f"Trained version {training.version}, whose accuracy it says is {training.accuracy:.4f}")
    return training


def lines(pieces: Iterator[str]) -> Iterator[str]:
    """Whole lines from pieces that may end anywhere."""
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from whole


def predict(client: Client, held_out: HeldOut) -> list[Probabilities]:
    """The probabilities of the ten digits for each image, all images in one request."""
    job = client.predict(PREDICTOR, "probabilities", {"images": held_out.images}, timeout=TIMEOUT_S)
    (probabilities,) = require(job, "predicting")  # one value for each fetched tensor
    return probabilities


def require(job: Job, what: str) -> Any:
    """The result of a job that has to succeed. A failed job is no exception, so it is looked at."""
    if not job.finish:
        raise DemoError(f"{what} took longer than {TIMEOUT_S} s")
    if job.error is not None:
        raise DemoError(f"{what} failed: {job.error.message}")
    return job.result


def request_bodies(held_out: HeldOut) -> list[bytes]:
    fields = {"name": PREDICTOR, "fetches": "probabilities"}
    return [request_body({**fields, "feed_dict": {"images": [image]}}) for image in held_out.images]


def update_while_predicting(url: str, client: Client, bodies: list[bytes]) -> list[Load]:
    """Train and deploy the next version while other connections go on predicting; what they saw."""
    with predicting(url, bodies, connections=CONNECTIONS_DURING_UPDATE, afterwards=PREDICTIONS_AFTERWARDS) as running:
        second = train(client, "Training again, while predicting", show_output=False)
        require(client.update(PREDICTOR, second.model_path, timeout=TIMEOUT_S), "the update")
    return [each.result() for each in running]


# --- what came out


def report_accuracy(probabilities: list[Probabilities], held_out: HeldOut) -> None:
    right = sum(best(each) == label for each, label in zip(probabilities, held_out.labels, strict=True))
    accuracy = right / len(held_out.labels)
    say(f"Accuracy over HTTP: {accuracy:.4f} ({right} of {len(held_out.labels)} held-out digits)")
    if accuracy < REQUIRED_ACCURACY:
        raise DemoError(f"the accuracy is below {REQUIRED_ACCURACY}")


def best(probabilities: Probabilities) -> int:
    return probabilities.index(max(probabilities))


def show(probabilities: list[Probabilities], held_out: HeldOut, picture: Path) -> None:
    """One image of each digit, and in the picture also those that were read wrong."""
    readings = [
        Reading(image, label, best(each), max(each))
        for image, label, each in zip(held_out.images, held_out.labels, probabilities, strict=True)
    ]
    samples = list({each.label: each for each in readings if each.is_right}.values())
    samples.sort(key=lambda each: each.label)
    draw_in_terminal(console, samples)
    draw_picture(picture, samples + [each for each in readings if not each.is_right])
    say(f"Picture, with every digit that was read wrong: {picture}")


def report_speed(speeds: Sequence[Speed]) -> None:
    table = Table("clients", "requests/s", "p50 ms", "p99 ms", title="One image in each request")
    for each in speeds:
        table.add_row(f"{each.connections}", f"{each.per_second:.0f}", f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}")
    console.print(table)


def report_update(loads: list[Load], before: list[Probabilities], after: list[Probabilities]) -> None:
    """Every request must have been answered, by the one version or by the other."""
    failures = [failure for load in loads for failure in load.failures]
    versions = Counter(
        version_of(answer, before[image], after[image]) for load in loads for image, answer in load.answers
    )
    say(
        f"Updated while predicting: {versions.total() + len(failures)} requests, {len(failures)} failed; "
        f"version 1 answered {versions[1]}, version 2 answered {versions[2]}"
    )
    if failures:
        raise DemoError(f"a prediction failed during the update: {failures[0]}")
    if versions[None] or not versions[1] or not versions[2]:
        raise DemoError(f"the two versions did not answer as they should: {dict(versions)}")


def version_of(answer: Probabilities, first: Probabilities, second: Probabilities) -> int | None:
    """Which version gave this answer, or none of them."""
    distances = {1: distance(answer, first), 2: distance(answer, second)}
    nearest = min(distances, key=distances.__getitem__)
    return nearest if distances[nearest] < TOLERANCE else None


def distance(one: Probabilities, other: Probabilities) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def require_light_client() -> None:
    heavy = {"tensorflow", "keras", "numpy", "django"} & sys.modules.keys()
    if heavy:
        raise DemoError(f"the client has imported {', '.join(sorted(heavy))}")
    say("This client never imported TensorFlow or Django")


def say(text: str) -> None:
    console.print(f"[bold green]✓[/] {text}", soft_wrap=True)


# --- the command


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the server is stopped then too
    data_dir = Path(tempfile.mkdtemp(prefix="tfserve-demo-"))
    begin = time.monotonic()
    try:
        with running_server(data_dir, console) as url:
            run(url, arguments.picture)
    except KeyboardInterrupt:
        console.print("Interrupted; the server is stopped.")
        return 128 + signal.SIGINT
    except Exception as error:
        console.print(f"The demo failed: {type(error).__name__}: {error}", style="bold red", markup=False)
        return 1
    finally:
        tidy_up(data_dir, keep=arguments.keep)
    say(f"The server stopped cleanly. Done in {time.monotonic() - begin:.0f} s")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train, deploy, predict and update a model, on a server of its own.")
    parser.add_argument("--keep", action="store_true", help="keep the server's data folder")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes (%(default)s)")
    return parser.parse_args()


def tidy_up(data_dir: Path, *, keep: bool) -> None:
    if keep:
        console.print(f"The server's data folder is kept: {data_dir}", soft_wrap=True)
    else:
        shutil.rmtree(data_dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
