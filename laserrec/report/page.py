"""Write a report as one page that loads nothing: styles, charts and Plotly are part of it.

The page's security policy names the checksums of its two scripts, so a browser runs no other, and fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import torch

from laserrec.errors import DataError, MissingExtraError
from laserrec.report.gather import Report, gather
from laserrec.report.markup import Html, element, joined, script_json
from laserrec.report.sections import Canvas, data_section, results_section, section, slices_section, summary
from laserrec.report.training_sections import cost_section, map_section, repeat_section, training_section, users_section
from laserrec.runs.folder import RunFolder
from laserrec.system.atomic import aside
from laserrec.system.devices import CPU


def write_report(
    run: RunFolder, path: Path, data_path: Path | None = None, device: torch.device = CPU, others: Sequence[Path] = ()
) -> None:
    """Write a run's report as one page; the file is replaced only by a complete one.

    Args:
        run: with a trained model, evaluated on test.
        path: the page.
        data_path: where the dataset lies now, when it was moved.
        device: where the model computes.
        others: folders as `compare` accepts them, to compare the run with in figures, tests and slices.

    Raises:
        MissingExtraError: Plotly is not installed, or SciPy, and there are models to test against.
        DataError: a run was not evaluated or belongs to another split, or the dataset cannot be found or is another one.
        CheckpointError: training did not get so far, or a file is damaged.
    """
    plotly = plotly_script()
    text = page(gather(run, data_path, device, others), plotly)
    try:
        with aside(path) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error}. Make room on the disk, or choose another place.") from error


def plotly_script() -> str:
    """Return Plotly's JavaScript, which its Python package contains.

    Raises:
        MissingExtraError: that is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtraError("plotly", "report", "A report with charts") from error
    return str(get_plotlyjs())


def page(report: Report, plotly: str) -> Html:
    """Return the page.

    Args:
        report: its content.
        plotly: Plotly's JavaScript.
    """
    canvas = Canvas()
    about = report.about
    sections = (
        ("data", "Data", data_section(report.population, canvas)),
        ("results", "Figures", results_section(report.compared, canvas)),
        ("slices", "Kinds of users and items", slices_section(report.compared, canvas)),
        ("training", "Training", training_section(report.fits, canvas)),
        ("map", "Map of the items", map_section(report.items, report.trained, canvas)),
        ("users", "Users", users_section(report.examples)),
        ("cost", "Cost", cost_section(report, canvas)),
        ("repeat", "Command, environment, settings", repeat_section(about)),
    )
    name = f"{report.compared.tables[0].rows[0].name} on {report.compared.dataset}"
    where = element("p", f"A run of laserrec {about['version']}, begun {about['started']}.", class_="faint")
    contents = element("ul", *(element("li", element("a", heading, href=f"#{place}")) for place, heading, _ in sections))
    body = [
        element("header", element("h1", name), where, summary(report.compared)),
        element("nav", contents, aria_label="Contents"),
        element("main", *(section(*each) for each in sections)),
        element("noscript", element("p", "The charts need JavaScript; the tables do not.")),
        element("footer", "This page holds all that it shows, and loads nothing."),
    ]
    return _document(name, body, canvas, plotly)


def _document(name: str, body: list[Html], canvas: Canvas, plotly: str) -> Html:
    drawn = {place: {"data": list(chart.data), "layout": chart.layout} for place, chart in canvas.charts.items()}
    scripts = [text.replace("\r\n", "\n") for text in (plotly, _own("page.js"))]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_checksum, scripts))}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", name),
        element("style", Html(_own("page.css"))),
    ]
    charts = element("script", script_json(drawn), type="application/json", id="charts")
    scripted = [charts, *(element("script", Html(text)) for text in scripts)]
    return joined([Html("<!doctype html>\n"), element("html", element("head", *head), element("body", *body, *scripted), lang="en"), "\n"])


def _checksum(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _own(name: str) -> str:
    return files("laserrec.report").joinpath(name).read_text(encoding="utf-8")
