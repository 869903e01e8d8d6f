"""Train on a folder of pictures through the training API, deploy the result, and let it read unseen files.

    .venv/bin/python examples/training_demo.py        the same as `make demo-training`

Makes a project from scikit-learn's 1,797 real digits (PNG files in class folders), keeps some files aside, starts
the daemon, posts the form that a site's back-end would post, shows the progress, deploys `task:<id>` and sends
the files that the training never saw, as they are, base64 in JSON.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from demo_parts.drawing import Reading, draw_in_terminal
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

REPOSITORY = Path(__file__).parents[1]
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
UNSEEN_SHARE = 0.1
WANTED_ACCURACY = 0.95

console = Console()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tfserve-training-") as name:
        folder = Path(name)
        unseen = make_project(folder)
        console.print(f"[green]✓[/green] A project of pictures in {folder / 'project'}, {len(unseen)} kept aside")
        with daemon(folder) as url, httpx.Client(base_url=url, timeout=120) as http:
            task = train(http, folder / "project")
            console.print(f"[green]✓[/green] Trained: {task['message']}, model in {task['modelPath']}")
            show_metrics(http, task["taskId"])
            return classify(http, task["taskId"], unseen)


def make_project(folder: Path) -> list[tuple[Path, int]]:
    """images/<class>/*.png of 28 x 28, and the files that the training is not shown."""
    digits = load_digits()
    numbers = range(len(digits.target))
    seen, _ = train_test_split(numbers, test_size=UNSEEN_SHARE, stratify=digits.target, random_state=0)
    shown, unseen = set(seen), []
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / "project" / "images" / WORDS[label] if number in shown else folder / "unseen"
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"{number}.png"
        Image.fromarray((image * 15.9).astype("uint8")).resize((28, 28), Image.Resampling.BICUBIC).save(file)
        if number not in shown:
            unseen.append((file, int(label)))
    return unseen


@contextmanager
def daemon(folder: Path) -> Iterator[str]:
    """The address of a server in the background, which is stopped in the end."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        port, training_port = one.getsockname()[1], two.getsockname()[1]
    words = [f"127.0.0.1:{port}", "--port", str(training_port), "--data-dir", "data", "--roots", str(folder)]
    command = [sys.executable, str(REPOSITORY / "server.py")]
    subprocess.run([*command, "start", *words], cwd=folder, check=True)
    try:
        yield f"http://127.0.0.1:{training_port}"
    finally:
        subprocess.run([*command, "stop", *words], cwd=folder, check=True)


def train(http: httpx.Client, project: Path) -> dict[str, Any]:
    """Posts the form and follows the task to its end."""
    form = {"userId": "demo", "projectId": "digits", "projectDir": str(project), "trainType": "classification"}
    form |= {"backbone": "compact", "effort": "fast"}  # photographs teach nothing about digits, so no other is tried
    answer = http.post("/", data=form)
    if answer.status_code != 200:
        raise SystemExit(f"refused: {answer.text}")
    task: dict[str, Any] = answer.json()
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    revision = 0
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("waiting", total=100)
        while task["state"] in ("initialize", "pending", "processing"):
            # Answered when something has changed: no need to ask again and again.
            server = http.get("/server/", params={"since": revision}).json()["result"]
            revision = server["revision"]
            task = http.get("/", params={"taskId": task["taskId"]}).json()
            bars.update(bar, completed=task["progress"], description=task.get("message", ""))
    if task["state"] != "done":
        raise SystemExit(f"{task['state']}: {task.get('error')}")
    return task


def show_metrics(http: httpx.Client, task_id: str) -> None:
    files = http.get(f"/tasks/{task_id}/artifacts/").json()["files"]
    console.print(f"[green]✓[/green] It made {', '.join(files)}")


def classify(http: httpx.Client, task_id: str, unseen: list[tuple[Path, int]]) -> int:
    """Sends the bytes of the files that were kept aside; the exit code tells whether enough were read right."""
    call(http, "/create_workspace/", name="digits")
    call(http, "/deploy/", name="digits", path=f"task:{task_id}", timeout=60)
    encoded = [{"b64": base64.b64encode(file.read_bytes()).decode()} for file, _ in unseen]
    fetches = ["label", "probabilities"]
    labels, probabilities = call(
        http, "/predict/", name="digits", fetches=fetches, feed_dict={"image_bytes": encoded}, signature="image_bytes",
        timeout=60,
    )  # fmt: skip
    readings = [
        Reading(pixels(file), label, WORDS.index(said), max(chances))
        for (file, label), said, chances in zip(unseen, labels, probabilities, strict=True)
    ]
    right = sum(each.is_right for each in readings)
    accuracy = right / len(readings)
    console.print(f"[green]✓[/green] Unseen files, by their bytes: {right} of {len(readings)} right, {accuracy:.4f}")
    draw_in_terminal(console, [next(each for each in readings if each.label == digit) for digit in range(10)])
    return 0 if accuracy >= WANTED_ACCURACY else 1


def call(http: httpx.Client, path: str, /, **fields: Any) -> Any:
    """The result of a call, or of the job that it submits."""
    content = http.post(path, content=json.dumps(fields)).json()
    result = content["result"]
    if not content["request_result"] or (isinstance(result, dict) and result.get("error")):
        raise SystemExit(f"{path}: {result}")
    return result["result"] if isinstance(result, dict) else result


def pixels(file: Path) -> list[list[float]]:
    """The picture as the drawing wants it: 8 rows of 8 numbers from 0 to 1."""
    small = Image.open(file).resize((8, 8), Image.Resampling.BOX)
    return [[small.getpixel((x, y)) / 255 for x in range(8)] for y in range(8)]  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
