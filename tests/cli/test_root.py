"""The command line as a whole: quick help, exit codes, one-line errors, as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import laserrec as package
from laserrec.cli.support import option

Run = Callable[..., tuple[int, str, str]]
HEAVY = ("torch", "transformers", "polars", "numpy", "safetensors", "huggingface_hub", "optuna", "plotly", "scipy")
MAIN = "from laserrec.cli import main; main()"


def process(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "laserrec", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [(), ("train",), ("demo",), ("recommend",), ("transfer",), ("data", "restrict")], ids=" ".join)
def test_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    """What makes help slow is what it imports; seconds differ from machine to machine."""
    line = f"import atexit, sys; atexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules])); {MAIN}"
    shown = subprocess.run([sys.executable, "-c", line, *words, "--help"], capture_output=True, text=True, check=True).stdout
    assert "Usage: laserrec" in shown
    assert shown.splitlines()[-1] == "[]"


def test_every_command_is_listed() -> None:
    shown = process("--help").stdout
    assert all(name in shown for name in ("demo", "data", "train", "evaluate", "report", "recommend", "assets"))


def test_without_a_command_the_help_is_shown(laserrec: Run) -> None:
    code, out, err = laserrec()
    assert code == 2
    assert "Usage: laserrec" in out + err
    assert "error" not in err


def test_version(laserrec: Run) -> None:
    assert laserrec("--version") == (0, package.__version__ + "\n", "")


@pytest.mark.parametrize("words", [("fly",), ("train", "--wings"), ("recommend",), ("data", "fly")], ids=" ".join)
def test_a_wrong_command_line_is_one_line(laserrec: Run, words: tuple[str, ...]) -> None:
    code, out, err = laserrec(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert "--help" in err


def test_errors_of_the_library_end_a_process_with_1() -> None:
    ended = process("data", "inspect", "nowhere")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: nowhere is not a prepared dataset")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "flag"),
    [("user", "--user-column"), ("attributes", "--attribute"), ("max_bad_share", "--max-bad-share"), ("llm.layers", "--set llm.layers=…")],
)
def test_parameters_of_python_have_names_on_the_command_line(name: str, flag: str) -> None:
    assert option(name) == flag


def test_an_error_of_a_table_names_the_options_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who,thing,when\nu,i,1\n")
    command = [sys.executable, "-m", "laserrec", "data", "prepare", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "cannot tell which column is the user" in ran.stderr
    assert ran.stderr.rstrip().endswith("Options: --user-column.")
