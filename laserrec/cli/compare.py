"""`laserrec compare`: runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laserrec.cli.evaluate import SplitOption
from laserrec.cli.support import UsageError


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, of models below one, of baselines, or of seeds; the first is tested.")
    ],
    split: Annotated[SplitOption, typer.Option(help="Which split of the dataset.")] = SplitOption.test,
    json_file: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON; - for stdout.")] = None,
    markdown_file: Annotated[str | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as Markdown.")] = None,
    html_file: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write the tables as a page.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the runs' dataset lies now, when it was moved.")] = None,
) -> None:
    """Compare models on the same users: intervals, paired tests, slices, published figures; runs that differ in seed are averaged."""
    from laserrec.cli.support import write_json_to, write_text_to
    from laserrec.comparison.compare import compare_runs
    from laserrec.comparison.layout import html, markdown
    from laserrec.system.provenance import provenance

    if [json_file, markdown_file, html_file].count("-") > 1:
        raise UsageError("Only one of --json, --markdown and --html can be written to stdout; give files for the others.")
    compared = compare_runs(runs, split.value, data)
    if json_file is not None:
        write_json_to(json_file, compared.as_dict() | provenance())
    if markdown_file is not None:
        write_text_to(markdown_file, markdown(compared))
    if html_file is not None:
        write_text_to(html_file, html(compared))
    if "-" not in {json_file, markdown_file, html_file}:
        from laserrec.cli.show import show_grids
        from laserrec.comparison.layout import NOTE, grids

        show_grids(grids(compared))
        typer.echo(NOTE)
