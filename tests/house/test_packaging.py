"""pyproject, pinned constraints, changelog and code agree with each other."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import laserrec

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def test_every_requirement_has_a_pin_in_its_range() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    declared = [Requirement(text) for texts in (PROJECT["dependencies"], *EXTRAS.values()) for text in texts]
    for requirement in declared:
        name = canonicalize_name(requirement.name)
        if name != "laserrec":
            assert requirement.specifier.contains(Version(pins[name])), f"{requirement} against {pins[name]}"


def test_errors_name_extras_that_exist() -> None:
    for path in (REPOSITORY / "laserrec").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "MissingExtraError":
                package, extra = node.args[:2]
                assert isinstance(extra, ast.Constant)
                names = {canonicalize_name(Requirement(text).name) for text in EXTRAS[str(extra.value)]}
                if isinstance(package, ast.Constant):
                    assert canonicalize_name(str(package.value)) in names, f"{path.name}: {package.value} is not in the extra {extra.value}"


def test_the_changelog_has_this_version() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert versions[0] == laserrec.__version__


def test_what_the_demonstration_leaves_does_not_trouble_the_linter(tmp_path: Path) -> None:
    """A folder `runs` beside the code once counted as a package of ours, and imports were then in the wrong order."""
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    for folder in ("experiments", "benchmarks"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    for folder in ("laserrec", "runs/demo", "data"):
        (tmp_path / folder).mkdir(parents=True)
    ran = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
