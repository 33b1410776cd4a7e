"""The documentation: it builds without a warning, its links lead somewhere, and it stays short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
MOST_WORDS = 20_000
README_WORDS = 900


def words(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").split())


def test_documents_stay_short() -> None:
    assert words(REPOSITORY / "README.md") <= README_WORDS
    assert sum(map(words, DOCUMENTS)) <= MOST_WORDS


def test_tables_say_what_the_results_say() -> None:
    """`python experiments/tables.py` writes them."""
    from tables import DOCUMENTS as WITH_TABLES
    from tables import filled

    for name in WITH_TABLES:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        assert "<!-- table of results/" in text
        assert filled(text) == text


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.parent == REPOSITORY], ids=lambda path: path.name)
def test_the_readmes_links_exist(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    here = [target for target in targets if not target.startswith("http")]
    assert here
    assert not [target for target in here if not (path.parent / target).exists()]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Strict: a missing page, link, heading or docstring's name ends the build."""
    pytest.importorskip("mkdocs", reason="building the site needs the extra docs")
    pytest.importorskip("material", reason="building the site needs the extra docs")
    pytest.importorskip("mkdocstrings", reason="building the site needs the extra docs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPOSITORY), "LASERREC_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert built.stderr.strip() == ""
    reference = tmp_path / "site" / "reference"
    assert "max_item_tokens" in (reference / "settings.html").read_text()
    assert "/v1/recommendations" in (reference / "http.html").read_text()
    assert "laserrec train" in (reference / "command-line.html").read_text()
    assert "add_items" in (reference / "python.html").read_text()
    loaded = re.findall(
        r"<(?:script|link rel=.stylesheet.)[^>]+(?:src|href)=.https?:[^>]+>", (tmp_path / "site" / "index.html").read_text()
    )
    assert loaded == []  # a page asks no other machine for anything
