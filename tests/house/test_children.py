"""No child process, and no command, runs code that lies in the working folder."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import laserrec
from laserrec.assets.store import _pip

PACKAGE = Path(laserrec.__file__).parent
TRAPPED = ("polars", "pip", "numpy", "typer", "json", "rich", "gguf", "transformers")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with modules that leave a mark when they are imported, as a downloaded archive may hold them."""
    for name in TRAPPED:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'a').write('{name} ')\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", [None, "", os.curdir], ids=["plain", "empty entry", "dot"])
def test_pip_is_never_the_working_folders(trap: Path, monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([path, "/nonexistent"]))
    outcome = _pip("--version")
    assert (outcome.returncode, outcome.stdout.split()[0]) == (0, "pip")
    assert not (trap / "sprung").exists()


def test_the_command_imports_nothing_from_the_working_folder(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    line = [sys.executable, "-m", "laserrec", "data", "prepare", "absent.csv", "--out", "out"]
    outcome = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr.split()[0]) == (1, "error:")
    assert not (trap / "sprung").exists()


def test_every_python_child_keeps_the_working_folder_off_its_path() -> None:
    found = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
                found += 1
                assert ast.unparse(node.elts[1]) in {"'-P'", "'-I'"}, f"{path.relative_to(PACKAGE)}:{node.lineno}"
    assert found
