"""The database of `laserrec serve`: its events, and the items that it holds. It is only read.

The service's tables `events` (`number`, `user_id`, `item_id`, `kind`, `time` in microseconds) and `items` (`item_id`, `attributes` as JSON,
`deleted`) are its contract with this file; a test posts events to a service and reads them here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.reading.memory import Tables
from laserrec.data.reading.table import Table
from laserrec.data.sources.tabular import read_frames, table_items
from laserrec.data.tables import ITEM, TITLE
from laserrec.errors import DataError, MissingExtraError

NO_INTEREST = ("impression", "dislike")
"""Kinds of events that are left out where `keep` names none: those that the service itself does not count as interest."""
ALLOWED = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
_ADDRESS = re.compile(r"(sqlite|postgresql)://")
_EVENTS = {"user_id": pl.String, ITEM: pl.String, "kind": pl.String, "time": pl.Int64}


def is_address(source: object) -> bool:
    """Return whether a source is the address of a database, as `ALLOWED` says."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def read_service(address: str, options: ReadOptions) -> RawTables:
    """Read what a service gathered.

    Args:
        address: of its database.
        options: `keep`, such as `kind=purchase,click`; `items`, a file for those whose text the database does not hold; and how it is read.

    Raises:
        DataError: the database cannot be read, or another option was given.
        MissingExtraError: the extra `serve` is not installed.
    """
    options.refuse_all_but(
        ("keep", "items", "item_id", "title", "attributes", "encoding", "delimiter", "quoting"), "Databases of a service"
    )
    name, events, items = _fetch(address)
    kept = events if options.keep else events.filter(~pl.col("kind").is_in(NO_INTEREST))
    own = _frame(items, None if options.attributes is None else [TITLE, *options.attributes])
    if options.items is not None:
        more = table_items(Table.open(options.items, options), ITEM, options).frame
        own = pl.concat([own, more.join(own, on=ITEM, how="anti")], how="diagonal")
    timed = kept.with_columns(pl.from_epoch("time", time_unit="us"))
    read = ReadOptions(user="user_id", item=ITEM, time="time", keep=options.keep, item_id=ITEM, null_marks=())
    raw = read_frames(Tables(timed, own, name), read)
    left_out = events.height - kept.height
    note = f"{left_out:,} events of the kinds {' and '.join(NO_INTEREST)} were left out; name those to keep, such as kind=purchase"
    return replace(raw, format="service", left_out=raw.left_out + left_out, notes=(*raw.notes, *([note] if left_out else [])))


def _frame(items: Iterable[tuple[str, Mapping[str, str]]], wanted: list[str] | None) -> pl.DataFrame:
    rows = [{**attributes, ITEM: item_id} for item_id, attributes in items]
    names = {TITLE, *(name for row in rows for name in row)} - {ITEM}
    columns = [ITEM, *sorted(name for name in names if wanted is None or name in wanted)]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def _texts(attributes: object) -> dict[str, str]:
    """Return an item's attributes, which PostgreSQL's driver hands over as an object and SQLite's as JSON text."""
    texts = json.loads(attributes) if isinstance(attributes, str) else attributes
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("the attributes of an item are not an object whose values are texts")
    return texts


def _fetch(address: str) -> tuple[str, pl.DataFrame, list[tuple[str, dict[str, str]]]]:
    """Return the database's name, its events in the order of arrival, and the items that are not deleted."""
    try:
        import sqlalchemy as sa
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise MissingExtraError("sqlalchemy", "serve", "Reading a service's database") from error
    try:
        url = sa.make_url(address)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite and not Path(url.database or "").is_file():  # opening it would make an empty one
            raise DataError(f"There is no database {url.database!r}. Give the address of the store that the service was started with.")
        engine = sa.create_engine(url if sqlite else url.set(drivername="postgresql+psycopg"))
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise DataError(
            "Received no address of a service's database. Give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME."
        ) from error
    try:
        with engine.connect() as connection:
            log = sa.text("SELECT user_id, item_id, kind, time FROM events ORDER BY number")
            events = pl.DataFrame(connection.execute(log).all(), schema=_EVENTS, orient="row")
            rows = connection.execute(sa.text("SELECT item_id, attributes FROM items WHERE NOT deleted ORDER BY item_id")).all()
        items = [(str(row[0]), _texts(row[1])) for row in rows]
    except (SQLAlchemyError, pl.exceptions.PolarsError, TypeError, ValueError, RecursionError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise DataError(f"{url.render_as_string(hide_password=True)} cannot be read as a service's database: {reason}") from error
    finally:
        engine.dispose()
    return Path(url.database or "service").stem, events, items
