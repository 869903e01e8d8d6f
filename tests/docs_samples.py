"""Code samples of the documents: finds them in a page, and runs a page's samples as a reader would.

All samples of a page run in one bash, in order, in one folder, so that variables and files stay:

- ```bash is run; ```python without a title is run by Python
- a title (```js title="call.mjs") saves the sample to a file with this name
- ```json and ```text right after a sample that is run are its output; `…` stands for any text
- `<!-- not run: reason -->` on the line before a sample leaves it out
- the lines between `<!-- setup` and `-->` are run, and readers don't see them
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: what a reader may not have, and a machine of the tests either
OPTIONAL_TOOLS = ("node", "java", "php", "go", "dotnet")
RUN = ("bash", "python")
OUTPUT = ("json", "text")
TIMEOUT_S = 900

_FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>[\w+#]+)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^(?P=indent)```$',
    re.DOTALL | re.MULTILINE,
)
_SETUP = re.compile(r"^<!-- setup\n(.*?)^-->$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*\Z")
_SEPARATOR = "\x1e"


def generated(name: str) -> str:
    """A generated part of the reference. In a process of its own, because it sets up Django."""
    code = f"from tools.docs_reference import GENERATED; print(GENERATED[{name!r}]())"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


@dataclass(frozen=True)
class Sample:
    line: int
    language: str
    code: str
    title: str = ""
    skipped: bool = False
    output: str = ""

    @property
    def is_run(self) -> bool:
        return self.language in RUN and not self.title and not self.skipped

    @property
    def tool(self) -> str:
        """The optional program that the sample starts, if any."""
        first = self.code.split()[0]
        return first if first in OPTIONAL_TOOLS else ""


def samples(markdown: str) -> list[Sample]:
    """The samples of a page. An expected output is part of the sample before it."""
    markdown = _SETUP.sub(r"```bash\n\g<1>```", markdown)
    found: list[Sample] = []
    end = 0
    for match in _FENCE.finditer(markdown):
        code, between = textwrap.dedent(match["code"]), markdown[end : match.start()]
        if match["language"] in OUTPUT and found and found[-1].is_run and not between.strip():
            found[-1] = Sample(**{**vars(found[-1]), "output": code})
        else:
            line = markdown.count("\n", 0, match.start()) + 1
            skipped = _NOT_RUN.search(between) is not None
            found.append(Sample(line, match["language"], code, match["title"] or "", skipped))
        end = match.end()
    return found


def run(page: Path, folder: Path, ports: Mapping[str, str], python: Path) -> None:
    """Runs the samples of a page in `folder`. `ports` replaces ports of the samples by those of a server."""
    steps = [step for step in samples(page.read_text(encoding="utf-8")) if step.is_run or step.title]
    steps = [step for step in steps if not step.tool or shutil.which(step.tool)]
    script = "set -euo pipefail\n" + "".join(
        _commands(step, number, folder, python) for number, step in enumerate(steps)
    )
    for port, actual in ports.items():
        script = re.sub(rf"(?<=localhost:){port}\b", actual, script)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
    outputs = dict(_outputs(done.stdout))
    assert done.returncode == 0, f"{page}: line {steps[max(outputs)].line} failed\n{done.stdout}\n{done.stderr}"
    for number, step in enumerate(steps):
        problem = f"{page}: line {step.line}\nexpected {step.output}\ngot {outputs[number]}"
        assert matches(step.output, outputs[number]), problem
        assert '"request_result":false' not in outputs[number], problem


def matches(expected: str, output: str) -> bool:
    """Whether an output contains what a page shows, apart from white space."""
    parts = [re.escape(re.sub(r"\s", "", part)) for part in expected.split("…")]
    return re.search(".*?".join(parts), re.sub(r"\s", "", output)) is not None


def _commands(step: Sample, number: int, folder: Path, python: Path) -> str:
    """Bash for one sample, which first prints its number between separators."""
    announced = f"printf '\\n{_SEPARATOR}{number}{_SEPARATOR}\\n'\n"
    if step.title:
        return announced + _written(folder / step.title, step.code)
    if step.language == "python":
        file = folder / f"sample-{number}.py"
        return announced + _written(file, step.code) + f"'{python}' '{file}'\n"
    return announced + step.code


def _written(path: Path, code: str) -> str:
    return f"cat > '{path}' <<'END_OF_SAMPLE'\n{code}END_OF_SAMPLE\n"


def _outputs(printed: str) -> Iterator[tuple[int, str]]:
    _, *parts = printed.split(_SEPARATOR)
    for number, output in zip(parts[::2], parts[1::2], strict=True):
        yield int(number), output
