"""What the commands share: quiet libraries, a console for progress, an interruption that tells how to go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from laserrec.errors import DataError, InterruptedTraining, LaserrecError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from laserrec.config import LaserConfig

# The root of what Typer raises for a wrong command line has no public name of its own.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

MESSAGE_LETTERS = 8_000
"""Letters of a message that are shown: somebody else's file may have put a megabyte into it."""

COLUMNS = ("user", "item", "time", "clock", "item_id", "title")
"""Options of reading that name a column."""

Device = Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps. [a GPU that CUDA sees, else the CPU]")]


def progress_console() -> Console:
    """Return a console on stderr, so that stdout holds results alone; transformers' own bars are switched off."""
    from rich.console import Console
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return Console(stderr=True)


@contextmanager
def resumable(command: str) -> Iterator[None]:
    """Answer Ctrl-C with the command that continues.

    Raises:
        InterruptedTraining: it was pressed.
    """
    try:
        yield
    except (InterruptedTraining, KeyboardInterrupt) as stop:
        raise InterruptedTraining(f"Stopped. What is done is kept; continue with: {command}") from stop


def read_settings(
    file: Path | None, assignments: Sequence[str] | None, seed: int | None = None, preset: Literal["default", "paper"] = "default"
) -> LaserConfig:
    """Return the settings that a command's options describe: those of a file or a preset, with `--set` and `--seed` over them.

    Raises:
        ConfigError: a key is unknown or a value out of range.
    """
    from laserrec.config import LaserConfig

    settings = LaserConfig.load(file) if file else LaserConfig.preset(preset)
    return settings.override([*(assignments or []), *([] if seed is None else [f"seed={seed}"])])


def one_of(names: Sequence[str]) -> Callable[[list[str]], list[str]]:
    """Return a callback for arguments that must be among some names."""

    def check(given: list[str]) -> list[str]:
        for name in given:
            if name not in names:
                raise typer.BadParameter(f"{name!r} is not one of {', '.join(names)}.")
        return given

    return check


def print_json(value: Mapping[str, Any]) -> None:
    """Print JSON on stdout."""
    typer.echo(_json(value))


def _json(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
    # JSON escapes only the first 32 control characters; those from 127 to 159 stand in texts alone, where an escape means the same.
    return text.translate({code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)})


def write_json_to(target: str, value: Mapping[str, Any]) -> None:
    """Write JSON to a file, or to stdout for `-`.

    Raises:
        DataError: the file cannot be written.
    """
    write_text_to(target, _json(value) + "\n")


def write_text_to(target: str, text: str) -> None:
    """Write text to a file, or to stdout for `-`.

    Raises:
        DataError: the file cannot be written.
    """
    if target == "-":
        typer.echo(text, nl=False)
        return
    from laserrec.system.atomic import aside

    path = Path(target)
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")  # a device or a pipe is written to, not replaced
            return
        with aside(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write {target}: {error}") from error


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line and exit: 0 done, 1 an error that the message explains, 2 a wrong command line, 130 interrupted."""
    try:
        code = app(prog_name=name, standalone_mode=False)
    except UsageError as error:
        _fail(_usage(error), 2)
    except InterruptedTraining as stop:
        _fail(str(stop), 130)
    except LaserrecError as error:
        _fail(f"error: {error}{_options(error)}", 1)
    except OSError as error:
        _fail(f"error: {error}", 1)
    sys.exit(code)


def option(name: str) -> str:
    """Return what the command line calls a parameter of Python; settings, which have a dot in their names, are `--set`."""
    if "." in name:
        return f"--set {name}=…"
    name = {"attributes": "attribute", **{column: f"{column}-column" for column in COLUMNS}}.get(name, name)
    return f"--{name.replace('_', '-')}"


def _options(error: LaserrecError) -> str:
    return f" Options: {', '.join(map(option, error.parameters))}." if error.parameters else ""


def _usage(error: Exception) -> str:
    if not str(error.format_message()):  # type: ignore[attr-defined]
        return ""  # a group without a command: its help was shown
    context = getattr(error, "ctx", None)
    hint = f" See: {context.command_path} --help" if context is not None else ""
    return f"error: {error.format_message()}{hint}"  # type: ignore[attr-defined]


def _fail(message: str, code: int) -> NoReturn:
    if message:
        typer.echo("\n".join(map(printable, message[:MESSAGE_LETTERS].splitlines())), err=True)
    sys.exit(code)
