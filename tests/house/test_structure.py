"""What holds for the code as a whole: layers, sizes, light imports, public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import laserrec
from laserrec.errors import LaserrecError

PACKAGE = Path(laserrec.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# A room may import those of earlier floors, and within a floor those before it on the line.
FLOORS = (
    ("errors",),
    ("config",),
    ("system",),
    ("assets",),
    ("data",),
    ("layers", "llm"),
    ("sequential", "text_cache"),
    ("evaluation", "laser"),
    ("training", "baselines"),
    ("recommender",),
    ("runs",),
    ("comparison", "report", "serving"),
    ("distributed",),
    ("cli",),
)
ORDER = [room for floor in FLOORS for room in floor]
HEAVY = ("torch", "transformers", "polars", "numpy", "sklearn")


def place(room: str) -> int:
    """Return a top-level module's place in the order."""
    assert room in ORDER, f"laserrec.{room} has no place in FLOORS of {Path(__file__).name}: give it one"
    return ORDER.index(room)


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every module that is imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from [f"laserrec.{alias.name}" for alias in node.names] if node.module == "laserrec" else [str(node.module)]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines after the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in {"__init__", "__main__"}:
        return
    for module in imported(ast.parse(path.read_text())):
        parts = module.split(".")
        if parts[0] == "laserrec" and len(parts) > 1 and parts[1] not in {own, "__version__"}:
            assert place(parts[1]) < place(own), f"{path.relative_to(PACKAGE)} imports {module}"


def test_imports_go_one_way_inside_rooms() -> None:
    """No file imports, at its top or inside a function, one that imports it, by whatever way."""
    modules = {".".join(("laserrec", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in FILES if path.stem != "__init__"}
    graph = {name: {found for found in imported(ast.parse(path.read_text())) if found in modules} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    long = {function.name: body_lines(function) for function in functions(ast.parse(text)) if body_lines(function) > 80}
    assert not long


def loaded_after(code: str) -> set[str]:
    """Return which heavy packages a fresh interpreter has loaded after some code."""
    script = f"import sys\n{code}\nprint('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.splitlines()[-1].split()[1:])


def test_importing_the_package_is_light() -> None:
    assert loaded_after("import laserrec, laserrec.errors, laserrec.assets") == set()


COMMANDS = (
    "",
    "data",
    "data prepare",
    "assets fetch",
    "train",
    "evaluate",
    "baseline",
    "tune",
    "compare",
    "report",
    "recommend",
    "serve",
    "serve run",
    "serve keys create",
    "store export",
)


@pytest.mark.parametrize("arguments", [command.split() for command in COMMANDS], ids=" ".join)
def test_help_is_light(arguments: list[str]) -> None:
    show = f"from laserrec.cli import main\nsys.argv = {['laserrec', *arguments, '--help']!r}"
    code = f"{show}\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    assert loaded_after(code) == set()


def test_public_names_are_sorted_and_load() -> None:
    assert laserrec.__all__ == sorted(laserrec.__all__)
    assert dir(laserrec) == laserrec.__all__
    assert all(getattr(laserrec, name) is not None for name in laserrec.__all__)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Lazer'; it has Dataset, Laser"):
        laserrec.Lazer  # noqa: B018 - reading it is the test


def test_every_error_is_drawn_in_the_tree() -> None:
    import laserrec.errors as errors

    own = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, LaserrecError)}
    drawn = {word for line in (errors.__doc__ or "").splitlines() if "──" in line for word in line.split() if word.isidentifier()}
    assert own - {"LaserrecError"} <= drawn
