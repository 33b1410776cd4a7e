"""What holds for the code as a whole: layers, sizes, light imports, public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import laserrec
from laserrec.errors import LaserrecError

PACKAGE = Path(laserrec.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# A module may import those before it. `data` and `nn` have no line between them: neither may import the other.
LAYERS = (
    ("errors",),
    ("config",),
    ("devices",),
    ("provenance",),
    ("atomic",),
    ("checkpoint", "folders"),
    ("assets",),
    ("data", "nn"),
    ("ranking",),
    ("evaluation",),
    ("training",),
    ("baselines",),
    ("model_folder", "checks"),
    ("start", "requests"),
    ("recommender",),
    ("planning", "batch"),
    ("run_folder",),
    ("baseline_runs",),
    ("comparison",),
    ("report",),
    ("tuning",),
    ("demo",),
    ("bench",),
    ("cli",),
)
HEAVY = ("torch", "transformers", "polars", "numpy", "sklearn")


def layer(module: str) -> int:
    """Return a top-level module's place in the order."""
    places = [place for place, names in enumerate(LAYERS) if module in names]
    assert places, f"laserrec.{module} has no place in LAYERS of {Path(__file__).name}: give it one"
    return places[0]


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
            assert layer(parts[1]) < layer(own), f"{path.relative_to(PACKAGE)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    long = {function.name: body_lines(function) for function in functions(ast.parse(text)) if body_lines(function) > 40}
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
    "bench train",
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
