"""What outside developers rely on: one version, pinned packages, the same checks before a commit as in CI."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import tfserve
import tfserve_client
from tfserve.web.api.v2 import metadata

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PINS = dict(
    line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)
#: Parts of libraries that their documentation does not promise to keep.
PRIVATE = re.compile(r"\._|^uvicorn\.protocols|^openvino\._")


#: The Python of Debian 12: the oldest one on which the README's commands must work.
OLDEST_PYTHON = "3.11.2"


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in (*project["dependencies"], *extras)]


def test_the_version_is_written_once() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "tfserve.__version__"}
    reported = {
        metadata.server()["version"],
        importlib.metadata.version("tfserve"),
        tfserve_client.__version__,
        *(printed(*arguments) for arguments in (["--version"], ["version"])),
    }
    assert reported == {tfserve.__version__}


def printed(*arguments: str) -> str:
    command = [sys.executable, "-m", "tfserve.cli", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_every_pinned_package_runs_on_the_python_of_debian() -> None:
    installed = {canonicalize_name(each.name): each for each in importlib.metadata.distributions()}
    checked = {
        name: installed[name].metadata["Requires-Python"] for name in map(canonicalize_name, PINS) if name in installed
    }
    assert len(checked) > 100
    refused = {name: needs for name, needs in checked.items() if needs and OLDEST_PYTHON not in SpecifierSet(needs)}
    assert not refused, "pin versions that take this Python; `pip index versions NAME` under it shows them"


def test_no_pattern_uses_what_this_python_matches_wrongly() -> None:
    """Atomic groups and possessive repeats: before 3.11.5 they skip or repeat parts of an alternation."""
    wrong = re.compile(r"\(\?>|[^\\][+*?}]\+")
    for file in [*(REPOSITORY / "tfserve").rglob("*.py"), *(REPOSITORY / "clients").rglob("*.py")]:
        for call in (each for each in ast.walk(ast.parse(file.read_text())) if isinstance(each, ast.Call)):
            if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "re" and call.args:
                texts = [each.value for each in ast.walk(call.args[0]) if isinstance(each, ast.Constant)]
                patterns = [each.decode("latin-1") if isinstance(each, bytes) else str(each) for each in texts]
                found = [each for each in patterns if wrong.search(re.sub(r"\[[^]]*\]", "x", each))]
                assert not found, f"{file}:{call.lineno}: {found}"


def test_the_release_notes_of_this_version_exist() -> None:
    assert (
        f"# TFserve {tfserve.__version__}"
        in (REPOSITORY / "docs" / "releases" / f"{tfserve.__version__}.md").read_text()
    )


def test_every_dependency_has_a_pin_that_its_bounds_allow() -> None:
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    # the extra `gpu`, which excludes `tensorflow-cpu`; and the package that is installed from this checkout
    not_pinned = {"tensorflow", "tfserve-client"}
    for each in requirements():
        name = canonicalize_name(each.name)
        if name not in not_pinned:
            assert each.specifier.contains(pins[name]), f"{each} allows no {pins[name]}"


def test_libraries_whose_private_parts_are_imported_have_an_upper_bound() -> None:
    bounded = {each.name for each in requirements() if any("<" in spec.operator for spec in each.specifier)}
    private = {
        name for path in (REPOSITORY / "tfserve").rglob("*.py") for name in imported(path) if PRIVATE.search(name)
    }
    packages = importlib.metadata.packages_distributions()
    tops = {name.partition(".")[0] for name in private}
    distributions = {packages.get(top, [top])[0] for top in tops}  # Ray is not installed for most tests
    assert {"uvicorn", "grpcio-reflection"} <= distributions
    assert distributions <= bounded


def imported(path: Path) -> set[str]:
    """The modules of other packages that a file imports from."""
    nodes = ast.walk(ast.parse(path.read_text()))
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name for name in names if not name.startswith(("tfserve", "_"))}


def test_constraints_are_made_of_what_pip_would_install() -> None:
    path = REPOSITORY / "tools" / "refresh_constraints.py"
    spec = importlib.util.spec_from_file_location("refresh_constraints", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reports = [[package("numpy", "2.4.6"), package("Django", "5.2.19"), package("tfserve", "0.1.0", dir_info={})],
               [package("tf_keras", "2.21.0"), package("numpy", "2.4.6")]]  # fmt: skip
    lines = module.constraints({"install": packages} for packages in reports)
    assert lines == ["Django==5.2.19", "numpy==2.4.6", "tf_keras==2.21.0"]


def package(name: str, version: str, **download: Any) -> dict[str, Any]:
    """One package in the form of `pip install --report`."""
    return {"metadata": {"name": name, "version": version}, "download_info": {"url": "a", **download}}


def test_hooks_run_the_checks_of_make_check() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    checks = {line.strip().replace("$(BIN)", ".venv/bin").removesuffix(" .") for line in recipe[1].splitlines()}
    (local,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    assert {hook["entry"] for hook in local["hooks"]} == checks


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_each_python_that_the_package_names_is_tested_by_the_workflow(version: str) -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["test"]
    assert version in job["strategy"]["matrix"]["python"]
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


def test_the_container_serves_beyond_loopback_and_is_published_on_loopback_only() -> None:
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]["tfserve"]
    assert compose["ports"] == ["127.0.0.1:8000:8000"]
    last = (REPOSITORY / "Dockerfile").read_text().splitlines()[-1]
    assert json.loads(last.removeprefix("CMD "))[:3] == ["tfserve", "serve", "0.0.0.0:8000"]
