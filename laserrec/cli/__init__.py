"""The command line. Modules of this package import nothing heavy at their top: `--help` is instant."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from laserrec import __version__
from laserrec.cli import assets, baseline, bench, compare, data, demo, evaluate, recommend, report, train, transfer, tune
from laserrec.cli.support import UsageError
from laserrec.errors import InterruptedTraining, LaserrecError

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
app.command("recommend")(recommend.recommend)
app.add_typer(assets.app, name="assets")
app.add_typer(bench.app, name="bench")


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
    """Run the command line and exit: 0 done, 1 an error that the message explains, 2 a wrong command line, 130 interrupted."""
    try:
        code = app(prog_name="laserrec", standalone_mode=False)
    except UsageError as error:
        _fail(_usage(error), 2)
    except InterruptedTraining as stop:
        _fail(str(stop), 130)
    except (LaserrecError, OSError) as error:
        _fail(f"error: {error}", 1)
    sys.exit(code)


def _usage(error: Exception) -> str:
    if not str(error.format_message()):  # type: ignore[attr-defined]
        return ""  # a group without a command: its help was shown
    context = getattr(error, "ctx", None)
    hint = f" See: {context.command_path} --help" if context is not None else ""
    return f"error: {error.format_message()}{hint}"  # type: ignore[attr-defined]


def _fail(message: str, code: int) -> NoReturn:
    if message:
        typer.echo(" ".join(message.splitlines()), err=True)
    sys.exit(code)
