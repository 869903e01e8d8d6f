"""The models file: valid declarations, or every problem with its line, its key, and what was expected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tfserve.ipc.messages import Autoscale, DeclaredModel, NewestVersions, Resources
from tfserve.supervisor.declared.models_file import MAX_BYTES, ProblemsInFile, read

MODEL = '[models.a]\npath = "a"\n'


def problems_in(folder: Path, content: str | bytes) -> list[str]:
    file = folder / "models.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        read(file, [folder])
    except ProblemsInFile as error:
        return [str(problem) for problem in error.problems]
    return []


def test_a_valid_file_is_read_with_absolute_paths(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        '[models.prices]\npath = "prices"\nversions = {latest = 2}\nlabels = {stable = 3}\ndefault = "stable"\n'
        'replicas = 2\nmax_delay = 0\nautoscale = {max = 3}\nresources = {memory = "1GiB"}\n'
        '[workspaces.notes]\ntype = "thread"\n'
    )
    declared = read(file, [tmp_path])
    assert declared.models == {
        "prices": DeclaredModel(
            path=str(tmp_path / "prices"), versions=NewestVersions(latest=2), labels={"stable": 3}, default="stable",
            replicas=2, autoscale=Autoscale(max=3), resources=Resources(memory="1GiB"),
        )
    }  # fmt: skip
    assert declared.workspaces["notes"].type == "thread"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            f"{MODEL}replcas = 2",
            "line 3, models.a.replcas: unknown key (did you mean 'replicas'?). The keys are",
        ),
        ("[model.a]\npath = 'a'", "line 1, model: unknown table (did you mean 'models'?)"),
        (f"{MODEL}replicas = '2'", "line 3, models.a.replicas: expected `int`, got `str`. It is '2'"),
        (f"{MODEL}runtime = 'onnx'", 'line 3, models.a.runtime: expected one of "auto", "litert", "onnxruntime"'),
        (f"{MODEL}labels = {{stable = 'x'}}", "line 3, models.a.labels: expected `int`, got `str`"),
        (f"{MODEL}labels = {{'a/b' = 3}}", "line 3, models.a.labels: expected labels of 1 to 100 characters"),
        (f"{MODEL}versions = []", "line 3, models.a.versions: expected at least one version number"),
        (f"{MODEL}versions = [1, 1]", "line 3, models.a.versions: version 1 is listed twice"),
        (f"{MODEL}versions = {list(range(17))}", "line 3, models.a.versions: expected at most 16 versions"),
        (f"{MODEL}placement = 'heap'", 'line 3, models.a.placement: expected one of "pack", "spread", got'),
        (f"{MODEL}resources = {{gpus = 1}}", "line 3, models.a.resources.gpus: unknown key (did you mean 'gpu'?)"),
        (f"{MODEL}resources = {{gpu = 1.5}}", "line 3, models.a.resources: resources.gpu must be a whole number"),
        (f"{MODEL}autoscale = {{min = 3, max = 2}}", "line 3, models.a.autoscale: autoscale.min must be at most"),
        (f"{MODEL}default = 'stable'", "line 3, models.a.default: expected one of the labels (none)"),
        ("[models.a]", "line 1, models.a: object missing required field `path`"),
        ("[models.a]\npath = '../../etc'", "line 2, models.a.path: The path '../../etc' is outside the readable"),
        ("[models.'a@3']\npath = 'a'", "line 1, models.a@3: 'a@3' is not a valid workspace name"),
        (f"[models.{'a' * 81}]\npath = 'a'", f"line 1, models.{'a' * 81}: expected a name of at most 80"),
        ('[models."\u00e9"]\npath="a"\n[models."e\u0301"]\npath="a"', "line 3, models.e\u0301: the name"),
        (MODEL + MODEL, "line 3: not valid TOML: Cannot declare ('models', 'a') twice"),
        (f"{MODEL}x = 'abc", "line 3: not valid TOML: "),
        ("models = 3", "line 1, models: expected tables such as [models.name], got a number"),
        (MODEL.encode() + b"# \xff", "line 3: the file must be in UTF-8"),
        (b"", "the file is empty"),
        (b"#" * (MAX_BYTES + 1), "the file is too large"),
        ("a." * 100_000 + "b = 1", "line 1: a key has more than 32 parts"),
        ("a = " + "[" * 100_000, "not valid TOML: "),
    ],
)
def test_a_problem_is_reported_with_its_place(tmp_path: Path, content: str | bytes, problem: str) -> None:
    (found,) = problems_in(tmp_path, content)
    assert found.startswith(problem)


def test_all_problems_are_reported_in_the_order_of_their_lines(tmp_path: Path) -> None:
    found = problems_in(tmp_path, "[models.b]\nreplicas = 1\n[workspaces.c]\ntype = 3\n[models.a]\npath = 1\n")
    assert [each.partition(",")[0] for each in found] == ["line 1", "line 4", "line 6"]


def test_what_is_no_regular_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, problem in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "can't be read"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(ProblemsInFile, match=problem):
            read(path, [tmp_path])
