"""The command line as a whole: quick help, exit codes, one-line errors, as a process."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

import laserrec as package

Run = Callable[..., tuple[int, str, str]]
HELP_SECONDS = 0.3


def process(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from laserrec.cli import main; main()", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [(), ("train",), ("demo",), ("recommend",)], ids=" ".join)
def test_help_is_quick(words: tuple[str, ...]) -> None:
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    # Processor time, so that a busy machine does not count; the best of three, so that cold caches do not.
    times = []
    for _ in range(3):
        before = spent()
        shown = process(*words, "--help")
        times.append(spent() - before)
        assert shown.returncode == 0
        assert "Usage: laserrec" in shown.stdout
    assert min(times) < HELP_SECONDS


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
