"""With what and where something was computed."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

import laserrec
from laserrec.system.provenance import commit, environment, provenance


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(folder), *own, *words], capture_output=True, text=True, check=True).stdout.strip()


def test_a_checkout_tells_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "-am", "a release", "v9")  # a name would be no commit
    short = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert commit(tmp_path) == short
    commit.cache_clear()
    (tmp_path / "untracked").write_text("2")
    assert commit(tmp_path) == short
    commit.cache_clear()
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == f"{short}-dirty"
    commit.cache_clear()


def test_what_is_no_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit(tmp_path) is None
    (tmp_path / ".git").mkdir()  # git says that this is none
    commit.cache_clear()
    assert commit(tmp_path) is None
    commit.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))  # no git here
    assert commit(tmp_path) is None
    commit.cache_clear()


def test_a_command_can_be_pasted() -> None:
    words = ["python", "run.py", "--arms", "nothing fused", "it's"]
    assert shlex.split(provenance(words)["command"]) == words


def test_a_record_is_json_and_names_the_version() -> None:
    read = json.loads(json.dumps(provenance(), allow_nan=False))
    assert read["laserrec"] == laserrec.__version__
    assert read["machine"]["cores"] >= 1
    assert {"python", "torch", "polars"} <= environment().keys()
    assert None not in environment().values()
