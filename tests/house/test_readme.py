"""Every command and every line of Python in README.md runs, in the order given, on a small shop and a tiny language model."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from csv_shop import write_llm, write_shop

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCKS: list[tuple[str, str]] = re.findall(r"```(sh|python)\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.DOTALL)


def commands(program: str) -> list[str]:
    """Return the README's command lines that start with a program."""
    lines = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
    return [line for line in lines if line.split()[0] == program]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a shop's two tables, and a cache in which a tiny model stands for the default one."""
    from laserrec.assets import ASSETS
    from laserrec.llm.gguf import converted_folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    write_shop(tmp_path)
    write_llm(converted_folder(ASSETS[0]))
    return tmp_path


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command line of ours in this process."""
    from laserrec.cli import main

    monkeypatch.setattr(sys, "argv", shlex.split(line))
    code: object = None
    try:
        main()
    except SystemExit as end:
        code = end.code
    assert not code, f"{line}: exit code {code}"


def test_commands_and_python_run(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for line in commands("laserrec"):
        run(line, monkeypatch)
        assert capsys.readouterr().out.strip(), line
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert (shop / "runs" / "shop-python").is_dir()


@pytest.mark.parametrize("line", commands("make"))
def test_make_targets_exist(line: str) -> None:
    subprocess.run([*shlex.split(line), "-n"], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.parametrize("line", commands("pip"))
def test_installation_names_files_that_exist(line: str) -> None:
    words = shlex.split(line)
    assert words[:4] == ["pip", "install", "-c", "constraints.txt"]
    assert (REPOSITORY / "constraints.txt").is_file()


def test_no_command_is_left_out() -> None:
    lines = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
    assert len(lines) == len(commands("laserrec")) + len(commands("make")) + len(commands("pip"))
