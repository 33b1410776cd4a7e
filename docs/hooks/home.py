"""Make the README the home page: its links below `docs/` and to notebooks become links between pages, others plain names of files."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
NOTEBOOK = re.compile(r"\]\(notebooks/([\w-]+)\.ipynb\)")
BELOW = re.compile(r"(\]\(|src=\")docs/")
BESIDE = re.compile(r"\[([^\]]+)\]\((?!https?:|docs/|notebooks/|#)[^)]+\)")

HEAD = "---\nhide: [navigation]\n---\n\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the home page."""
    files.append(File.generated(config, "index.md", content=home((ROOT / "README.md").read_text(encoding="utf-8"))))
    return files


def home(readme: str) -> str:
    """Return the README as a page of the site."""
    return HEAD + BELOW.sub(r"\1", NOTEBOOK.sub(r"](tutorial/\1.md)", BESIDE.sub(r"`\1`", readme)))
