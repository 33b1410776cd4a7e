"""The default store: SQLite or PostgreSQL through SQLAlchemy, one code path for both.

SQLite writes ahead (WAL), waits for the disk at every commit and overwrites what is deleted. A transaction that writes takes SQLite's one
write lock at its beginning, since a lock that is asked for in the middle can be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Self

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from laserrec.errors import ConfigError, StoreError
from laserrec.serving import tables
from laserrec.serving.store import Event, Item, ItemChange, Key, Shown, in_parts

BUSY_SECONDS = 30
"""Seconds that SQLite waits for another process's write before it gives up."""
MIGRATION_LOCK = 0x6C61736572
"""Number of the lock under which one of several starting replicas migrates a PostgreSQL database; any fixed number would do."""
ROWS_AT_ONCE = 1000
"""Rows of one statement: seven parameters each stay far below SQLite's 32,766 and PostgreSQL's 65,535."""
LOOKED_AT = 5000
"""Latest events among which recent users are looked for."""
ALLOWED = "Give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME."
WRITES = {"laserrec_writes": True}


class SqlStore:
    """Events, items, recommendations and keys in one SQL database."""

    def __init__(self, engine: Engine) -> None:
        """Use a database whose tables are up to date; `open` is the way to get one."""
        self._engine = engine
        # SQLite lets one connection write at a time; a lock wakes the next one at once, where SQLite would have it look again and again.
        self._turn: AbstractContextManager[object] = Lock() if engine.dialect.name == "sqlite" else nullcontext()
        self._insert: Callable[[sa.Table], Any] = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    @classmethod
    def open(cls, address: str, connections: int = 4) -> Self:
        """Connect to a database and bring its tables up to date.

        Args:
            address: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.
            connections: how many to keep open.

        Raises:
            ConfigError: the address names no database of these two kinds.
            StoreError: the database cannot be reached, or its tables cannot be made.
        """
        url = _read_address(address)
        options: dict[str, Any] = {"timeout": BUSY_SECONDS} if url.get_backend_name() == "sqlite" else {"connect_timeout": BUSY_SECONDS}
        engine = sa.create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=True, connect_args=options)
        if url.get_backend_name() == "sqlite":
            _set_up_sqlite(engine)
        with _described(url):
            _migrate(engine)
        return cls(engine)

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Keep events; returns for each whether it is new, False for an event id that is there already."""
        kept: set[str] = set()
        with self._writing() as connection:
            for part in in_parts(events, ROWS_AT_ONCE):
                statement = (
                    self._insert(tables.events).values([vars(one) for one in part]).on_conflict_do_nothing(index_elements=["event_id"])
                )
                kept.update(found for found in connection.scalars(statement.returning(tables.events.c.event_id)) if found is not None)
        new = []
        for one in events:
            new.append(one.event_id is None or one.event_id in kept)
            kept.discard(one.event_id or "")  # the second of two in one call is a repetition
        return new

    def history(self, user_id: str, limit: int) -> list[Event]:
        """Return a user's latest events, oldest first; of equal times the one that arrived first."""
        columns = [tables.events.c[name] for name in Event.__dataclass_fields__]
        latest = (
            sa.select(*columns)
            .where(tables.events.c.user_id == user_id)
            .order_by(tables.events.c.time.desc(), tables.events.c.number.desc())
            .limit(limit)
        )
        with self._reading() as connection:
            return [Event(*row) for row in connection.execute(latest)][::-1]

    def erase_user(self, user_id: str) -> int:
        """Erase a user's events, also from the database's files; returns how many there were."""
        with self._writing() as connection:
            erased = connection.execute(sa.delete(tables.events).where(tables.events.c.user_id == user_id)).rowcount
        self._rewrite()
        return erased

    def _rewrite(self) -> None:
        """Remove deleted rows from the database's files: from SQLite's log of writes, and from PostgreSQL's tables."""
        if self._engine.dialect.name == "sqlite":
            with closing(self._engine.raw_connection()) as raw:
                ((busy, *_),) = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if busy:
                raise StoreError(
                    "The user is erased, but a long read keeps SQLite's log of writes from being emptied; erase the user again."
                )
            return
        with _described(self._engine.url), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM events")

    def latest_users(self, count: int) -> list[str]:
        """Return users among the latest events, at most `count`."""
        latest = sa.select(tables.events.c.user_id).order_by(tables.events.c.number.desc()).limit(LOOKED_AT)
        with self._reading() as connection:
            return list(dict.fromkeys(connection.scalars(latest)))[:count]

    def popularity(self, ignored: Sequence[str]) -> dict[str, int]:
        """Return each item's number of events, without events of the ignored kinds."""
        counted = (
            sa.select(tables.events.c.item_id, sa.func.count())
            .where(tables.events.c.kind.not_in(ignored))
            .group_by(tables.events.c.item_id)
        )
        with self._reading() as connection:
            return {item_id: int(count) for item_id, count in connection.execute(counted)}

    def change_items(self, changes: Sequence[ItemChange]) -> list[Item]:
        """Apply changes in order, all or none; returns the items as they are afterwards."""
        found: dict[str, Item] = {}
        with self._writing() as connection:
            # Whoever counts holds the counter's row until the commit, so numbers become visible in their order.
            count = sa.update(tables.counters).where(tables.counters.c.name == "items").values(value=tables.counters.c.value + len(changes))
            number = connection.execute(count.returning(tables.counters.c.value)).scalar_one() - len(changes)
            wanted = list(dict.fromkeys(change.item_id for change in changes))
            for ids in in_parts(wanted, ROWS_AT_ONCE):
                rows = connection.execute(sa.select(tables.items).where(tables.items.c.item_id.in_(ids)))
                found |= {row.item_id: Item(**row._mapping) for row in rows}
            after: list[Item] = []
            for place, change in enumerate(changes, start=1):
                item = change.on(found.get(change.item_id))
                found[change.item_id] = Item(**{**vars(item), "change": number + place})
                after.append(found[change.item_id])
            for part in in_parts((found[item_id] for item_id in wanted), ROWS_AT_ONCE):
                upsert = self._insert(tables.items).values([vars(item) for item in part])
                values = {column.name: upsert.excluded[column.name] for column in tables.items.c if not column.primary_key}
                connection.execute(upsert.on_conflict_do_update(index_elements=["item_id"], set_=values))
        return after

    def item(self, item_id: str) -> Item | None:
        """Return an item's row; None where the store has none."""
        with self._reading() as connection:
            row = connection.execute(sa.select(tables.items).where(tables.items.c.item_id == item_id)).one_or_none()
        return None if row is None else Item(**row._mapping)

    def items_since(self, change: int, limit: int) -> list[Item]:
        """Return items whose last change came after a number, in order of their changes."""
        later = sa.select(tables.items).where(tables.items.c.change > change).order_by(tables.items.c.change).limit(limit)
        with self._reading() as connection:
            return [Item(**row._mapping) for row in connection.execute(later)]

    def add_recommendations(self, shown: Sequence[Shown]) -> None:
        """Keep recommendations that were answered."""
        with self._writing() as connection:
            for part in in_parts(shown, ROWS_AT_ONCE):
                rows = [{**vars(one), "items": list(one.items)} for one in part]
                connection.execute(self._insert(tables.recommendations).values(rows).on_conflict_do_nothing())

    def attribution(self, ignored: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return, for each model's full name, how many answers it gave and how many of them an event followed that is not ignored."""
        shown, followed = tables.recommendations.c, tables.events.c
        event = (followed.recommendation_id == shown.recommendation_id) & followed.kind.not_in(ignored)
        answers, hits = (sa.func.count(sa.distinct(ids)) for ids in (shown.recommendation_id, followed.recommendation_id))
        both = tables.recommendations.outerjoin(tables.events, event)
        counted = sa.select(shown.model, answers, hits).select_from(both).group_by(shown.model)
        with self._reading() as connection:
            return {row[0]: (row[1], row[2]) for row in connection.execute(counted)}

    def add_key(self, key: Key) -> None:
        """Keep an access key."""
        with self._writing() as connection:
            connection.execute(sa.insert(tables.keys).values(vars(key)))

    def remove_key(self, key_id: str) -> bool:
        """Remove an access key; returns whether there was one."""
        with self._writing() as connection:
            return connection.execute(sa.delete(tables.keys).where(tables.keys.c.key_id == key_id)).rowcount > 0

    def access_keys(self) -> list[Key]:
        """Return all access keys."""
        with self._reading() as connection:
            return [Key(**row._mapping) for row in connection.execute(sa.select(tables.keys).order_by(tables.keys.c.created))]

    def all_events(self) -> Iterator[Event]:
        """Yield every event in the order of arrival, for a backup."""
        for row in self._in_order(tables.events, "number"):
            yield Event(**{name: value for name, value in row.items() if name != "number"})

    def all_recommendations(self) -> Iterator[Shown]:
        """Yield every recommendation, for a backup."""
        for row in self._in_order(tables.recommendations, "recommendation_id"):
            yield Shown(**row)

    def _in_order(self, table: sa.Table, by: str) -> Iterator[dict[str, Any]]:
        """Yield a table's rows in the order of a unique column, a part at a time so that writers need not wait."""
        column, last = table.c[by], None
        while True:
            part = sa.select(table).order_by(column).limit(ROWS_AT_ONCE)
            with self._reading() as connection:
                rows = connection.execute(part if last is None else part.where(column > last)).mappings().all()
            if not rows:
                return
            yield from map(dict, rows)
            last = rows[-1][by]

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _described(self._engine.url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Yield a connection inside a transaction that is durable when the block ends, and undone when it raises."""
        writing = self._engine.execution_options(**WRITES)
        with self._turn, _described(self._engine.url), writing.begin() as connection:
            yield connection


def _read_address(address: str) -> URL:
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise ConfigError(f"{address!r} is no address of a database. {ALLOWED}") from error
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return url
    shown = url.render_as_string(hide_password=True)
    raise ConfigError(f"Received the store {shown!r}. {ALLOWED}")


def _set_up_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's own type
        connection.isolation_level = None  # transactions begin where `_begin` says
        for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {setting}").fetchall()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("laserrec_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.connect().execution_options(**WRITES) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _described(url: URL) -> Iterator[None]:
    """Turn an error of the database into ours, without the values that it was about."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()[0]
        raise StoreError(f"The store {url.render_as_string(hide_password=True)} does not answer: {reason}") from error
