"""The command line. Modules of this package import nothing heavy at their top: `--help` is instant."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from laserrec import __version__
from laserrec.cli import assets, baseline, compare, data, demo, evaluate, export, recommend, report, serve, train, transfer, tune
from laserrec.cli.support import run

app = typer.Typer(
    name="laserrec",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("baseline")(baseline.baseline)
app.command("tune")(tune.tune)
app.command("transfer")(transfer.transfer)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("recommend")(recommend.recommend)
app.add_typer(serve.app, name="serve")
app.add_typer(serve.store_app, name="store")
app.add_typer(assets.app, name="assets")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)] = False,
) -> None:
    """Sequential recommendation with a frozen language model (Laser, arXiv 2409.01605)."""


def main() -> NoReturn:
    """Run the command line and exit."""
    run(app, "laserrec")
