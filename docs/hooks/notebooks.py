"""Show each notebook in `notebooks/` as a page of the tutorials: its text, its code and what the code printed when it was last run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page a notebook."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        content = page(json.loads(path.read_text(encoding="utf-8")), path.name)
        files.append(File.generated(config, f"tutorial/{path.stem}.md", content=content))
    return files


def page(notebook: Mapping[str, Any], name: str) -> str:
    """Return a notebook as Markdown.

    Args:
        notebook: as nbformat's version 4 has it.
        name: the file's, shown to who wants to run it.
    """
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += [shown for output in cell["outputs"] if (shown := printed(output))]
    title, *rest = parts
    note = f"!!! note\n\n    This page is the notebook `notebooks/{name}` of the repository. Open it there to change and run it."
    return "\n\n".join([title, note, *rest]) + "\n"


def printed(output: Mapping[str, Any]) -> str:
    """Return what a cell printed, as Markdown; warnings and progress, which go to stderr, are left out."""
    if output.get("name") == "stderr":
        return ""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What the cell drew](data:image/png;base64,{''.join(data['image/png']).strip()})"
    text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
    return f'```text title="Output"\n{text}\n```' if text else ""
