"""Every notebook runs from its first cell to its last, with a tiny language model instead of the default one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from csv_shop import write_llm

nbformat = pytest.importorskip("nbformat", reason="running notebooks needs the extra dev")
nbclient = pytest.importorskip("nbclient", reason="running notebooks needs the extra dev")

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first-recommendations", "reproduce-and-ablate", "your-own-shop"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from laserrec.assets import ASSETS
    from laserrec.llm.gguf import converted_folder

    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    write_llm(converted_folder(ASSETS[0]))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = ["".join(output.get("text", "") for output in cell["outputs"]) for cell in notebook.cells if cell.cell_type == "code"]
    assert printed[-1].strip()  # the last cell says something


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_without_places_of_the_machine(path: Path) -> None:
    """What is committed was run, and shows no path of the machine it ran on."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any(cell["outputs"] for cell in code)
    assert "/home/" not in path.read_text()
    assert "/tmp/" not in path.read_text()
    assert not [output for cell in code for output in cell["outputs"] if output.output_type == "error"]
