"""Code and documents are free of phrases that nobody speaks.

`python tests/house/test_prose.py` lists what is left anywhere, with its line.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Each is wrong wherever it stands; in brackets is what to write.
PHRASES = (
    r"in (?:the|its|their) place of",  # instead of; or what replaces what
    r"takes? the place of",  # replaces
    r"whole or not at all",  # atomically
    r"nobody took",  # without interactions
    r"(?:is|are|be|being|was|were) told(?! apart)",  # reports, returns, shows; the user sees
    r"tells? of",  # describes, reports
    r"told (?:how many|of|to)",  # called with the number of; said about
    r"stand-ins?",  # nearest warm items
    r"takes? it for",  # counts it as
    r"evening out",  # partial whitening
    r"nothing is held out",  # with hold_out = 0
    r"nobody else's business",  # private
)
WORN = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b".replace(" ", r"[\s#]+"), re.IGNORECASE)
EVERYTHING = ("laserrec", "experiments", "benchmarks", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")


def files(names: tuple[str, ...]) -> Iterator[Path]:
    """Yield the Python files and documents among names; the log keeps what was written on its day."""
    for name in names:
        path = REPOSITORY / name
        found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in {".py", ".md"})
        yield from (file for file in found if file != REPOSITORY / "docs" / "log.md")


def worn(text: str) -> list[str]:
    """Return the worn phrases of a text with their lines; of a changelog only what is not released yet counts."""
    text = text.split("\n## [0")[0]
    return [f"{text.count(chr(10), 0, found.start()) + 1}: {' '.join(found[0].split())}" for found in WORN.finditer(text)]


@pytest.mark.parametrize("path", list(files(EVERYTHING)), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_worn_phrases(path: Path) -> None:
    assert worn(path.read_text(encoding="utf-8")) == []


def test_worn_phrases_are_found_across_lines_and_in_comments() -> None:
    text = "A sum in the\nplace of a mean.\n    # what is\n    # told to users\nThey are told apart.\n## [0.1.0]\nwhole or not at all\n"
    assert worn(text) == ["1: in the place of", "3: is # told"]


def flags(text: str) -> list[str]:
    """Return the strings of a module that name flags of the command line, but for docstrings and the arguments of other programs."""
    tree = ast.parse(text)
    apart = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    apart |= {id(entry) for node in ast.walk(tree) if isinstance(node, ast.List) for entry in node.elts}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart)
    return [f"{node.lineno}: {node.value}" for node in strings if re.search(r"(?<!var\()(?<![\w-])--[a-z]", str(node.value))]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "laserrec").rglob("*.py")), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_only_the_command_line_names_its_flags(path: Path) -> None:
    if "cli" not in path.parts:
        assert flags(path.read_text(encoding="utf-8")) == []


def test_flags_are_found_in_messages_alone() -> None:
    text = '"""Run with --fast."""\nrun(["pip", "--quiet"])\nstyle = f"var(--series-{n})"\nraise E(f"{n}: add --force")\n'
    assert flags(text) == ["4: : add --force"]


if __name__ == "__main__":
    for path in files(EVERYTHING):
        for place in worn(path.read_text(encoding="utf-8")):
            sys.stdout.write(f"{path.relative_to(REPOSITORY)}:{place}\n")
