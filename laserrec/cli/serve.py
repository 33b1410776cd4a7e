"""`laserrec serve` answers over HTTP; `laserrec serve keys` and `laserrec store` look after its database."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from laserrec.cli.support import Device
from laserrec.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from laserrec.serving.messages import NewModel
    from laserrec.serving.settings import ServingSettings
    from laserrec.serving.sql_store import SqlStore
    from laserrec.serving.store import Event


class _RunFirst(TyperGroup):
    """A group whose first argument may be a run: `laserrec serve RUN` is `laserrec serve run RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's own context
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_RunFirst, help="Answer over HTTP: laserrec serve RUN.", no_args_is_help=True)
keys = typer.Typer(help="Keys that the service asks for.", no_args_is_help=True)
store_app = typer.Typer(help="Back up the service's database, or fill it.", no_args_is_help=True)
app.add_typer(keys, name="keys")

Store = Annotated[
    str | None, typer.Option(help="Database: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; sqlite:///laserrec.db when unset.")
]
Config = Annotated[Path | None, typer.Option(help="A TOML file; its table `serve` holds settings.")]
Scope = Annotated[Literal["read", "write", "admin"], typer.Option(help="read: ask; write: send events and items, too; admin: everything.")]
Source = Annotated[Path, typer.Argument(metavar="FILE|DATA", help="What `export` wrote, or a folder of `laserrec data prepare`.")]


@app.command("run")
def run(
    run: Annotated[str, typer.Argument(help="Folder of a run, folder of a model, or Hugging Face repository hf:owner/name.")],
    host: Annotated[
        str | None, typer.Option(help="Address to listen on, 127.0.0.1 when unset; others than this machine's need a key.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 chooses a free one. 8000 when unset.")] = None,
    store: Store = None,
    threads: Annotated[int | None, typer.Option(help="Threads that compute; all cores but one when unset.")] = None,
    config: Config = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another setting; repeatable.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME=RUN:SHARE", help="Another model for a share of the users; repeatable.")
    ] = None,
    device: Device = None,
) -> None:
    """Answer over HTTP with a trained model; events and items are kept in a database."""
    # Before torch is loaded: threads that wait for each other must not keep the cores from the event loop.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    settings = _settings({"host": host, "port": port, "store": store, "threads": threads, **_assigned(set_ or [])}, config)
    from laserrec.cli.support import progress_console
    from laserrec.recommender import Laser
    from laserrec.serving.messages import NewModel
    from laserrec.serving.server import serve
    from laserrec.serving.service import Service
    from laserrec.serving.settings import is_loopback
    from laserrec.serving.sql_store import SqlStore

    others = [_other_model(text) for text in model or []]
    rest = 1 - sum(other.share for other in others)
    if rest <= 0:
        raise ConfigError(f"The shares of --model leave {rest:g} of the users to {run}; give shares whose sum is below 1.")
    models = [NewModel(source=run, share=rest), *others]

    def load(source: str) -> Laser:
        return Laser.load(source, device=device, text_memory=settings.text_share)

    def make() -> Service:
        opened = SqlStore.open(settings.store, settings.store_threads)
        if not opened.access_keys() and not is_loopback(settings.host):
            raise ConfigError(
                f"Received the host {settings.host!r}, which other machines reach, and the store holds no key. "
                f"Make one with: laserrec serve keys create --scope admin --store {settings.store}"
            )
        with progress_console().status("Loading the model"):
            return Service(settings, opened, load, models)

    def started(address: str) -> None:
        note = "" if not is_loopback(settings.host) else " (this machine only)"
        typer.echo(f"Listening on {address}{note}; ready once {address}/readyz says so.")

    serve(make, settings, started)


@keys.command("create")
def create_key(
    scope: Annotated[
        Literal["read", "write", "admin"], typer.Option(help="read: recommendations; write: events and items, too; admin: all.")
    ],
    store: Store = None,
    config: Config = None,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    with _open(store, config) as opened:
        from laserrec.serving.access import make_key

        key, text = make_key(scope)
        opened.add_key(key)
    typer.echo(text)
    typer.echo(f"Key {key.key_id}, scope {scope}. It is not shown again. From now on the service answers nobody without a key.", err=True)


@keys.command("remove")
def remove_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id: the letters between lr_ and the next _.")],
    store: Store = None,
    config: Config = None,
) -> None:
    """Remove a key; a running service refuses it within a second."""
    with _open(store, config) as opened:
        if not opened.remove_key(key_id):
            raise ConfigError(f"There is no key {key_id!r}; there are: {', '.join(key.key_id for key in opened.access_keys()) or 'none'}.")
    typer.echo(f"Removed {key_id}.")


@store_app.command("export")
def export_store(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="A .jsonl file.")],
    store: Store = None,
    config: Config = None,
) -> None:
    """Write events, items and recommendations into one file, for a backup or another database; keys stay where they are."""
    with _open(store, config) as opened:
        from laserrec.serving.backup import export

        counts = export(opened, out)
    typer.echo(f"{out}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))


@store_app.command("import")
def import_store(
    source: Source,
    store: Store = None,
    config: Config = None,
) -> None:
    """Read what `export` wrote into an empty store, or a dataset's events; those that are there already are not added again."""
    with _open(store, config) as opened:
        from laserrec.serving.backup import import_events, import_file

        counts = import_events(opened, _events(source)) if source.is_dir() else import_file(opened, source)
    typer.echo(f"{source}: " + ", ".join(f"{count:,} new {name}" for name, count in counts.items()))


def _events(folder: Path) -> Iterator[Event]:
    """Yield a dataset's events, each user's in order, with ids that are the same every time."""
    from laserrec.data.dataset import Dataset
    from laserrec.serving.store import Event

    data = Dataset.load(folder)
    for row, (user_id, item_id, timestamp, _) in enumerate(data.interactions.iter_rows()):
        yield Event(user_id, item_id, "interaction", timestamp, f"{data.fingerprint[:16]}/{row}")


@contextmanager
def _open(store: str | None, config: Path | None) -> Iterator[SqlStore]:
    settings = _settings({"store": store}, config)
    from laserrec.serving.sql_store import SqlStore

    opened = SqlStore.open(settings.store)
    try:
        yield opened
    finally:
        opened.close()


def _settings(options: dict[str, object], config: Path | None) -> ServingSettings:
    """Return the settings; the packages that the service needs are asked for first."""
    for package in ("fastapi", "uvicorn", "sqlalchemy", "alembic", "psycopg", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve", "The service")
    from laserrec.serving.settings import ServingSettings

    return ServingSettings.gather(options, config)


def _other_model(text: str) -> NewModel:
    """Return what `--model NAME=RUN:SHARE` names."""
    from laserrec.serving.messages import NewModel

    found = re.fullmatch(r"([^=]+)=(.+):(0?\.\d+)", text)
    if found is None or found[1] == "default":
        raise ConfigError(f"Received --model {text!r}; expected is NAME=RUN:SHARE, such as new=runs/new:0.1, and not the name 'default'.")
    return NewModel(name=found[1], source=found[2], share=float(found[3]))


def _assigned(assignments: list[str]) -> dict[str, object]:
    """Return what `--set NAME=VALUE` sets; lists are divided by commas."""
    found: dict[str, object] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"Received --set {assignment!r}; expected is NAME=VALUE, such as deadline=2.")
        found[name.strip()] = value.split(",") if name.strip() in {"not_interest", "dislike"} else value
    return found
