"""A service's database as a source: what was posted is what is prepared, from SQLite and from PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from postgres import Postgres

from laserrec import PrepareOptions, ReadOptions, prepare
from laserrec.data.sources.service import NO_INTEREST
from laserrec.errors import DataError
from laserrec.serving.settings import ServingSettings
from laserrec.serving.sql_store import SqlStore
from laserrec.serving.store import Event, ItemChange

MOMENT = 1_700_000_000
EVENTS = [
    Event(user, item, kind, (MOMENT + second) * 1_000_000 + 7, f"{user}{second}")
    for user in ("anna", "o'hara/1")
    for second, (item, kind) in enumerate([("tent", "buy"), ("map", "impression"), ("ä%2F", "click"), ("map", "dislike"), ("rope", "buy")])
]
ALL = PrepareOptions(min_user=1, min_item=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    server = None
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path / 'shop.db'}"
    else:
        server = Postgres.found()
        if server is None:
            pytest.skip("no PostgreSQL below /usr/lib/postgresql and none on the PATH; apt-get install postgresql")
        server.start()
        found = server.new_database()
    store = SqlStore.open(found)
    store.add_events(EVENTS)
    store.change_items([ItemChange("tent", {"title": "Tent", "brand": "Alp"}), ItemChange("rope", {"title": "Rope"})])
    store.change_items([ItemChange("rope", deleted=True), ItemChange("ä%2F", {"title": "Null"})])
    store.close()
    yield found
    if server is not None:
        server.remove()


def test_what_was_posted_is_what_is_prepared(address: str, tmp_path: Path) -> None:
    dataset, summary = prepare(address, ALL)
    for user in ("anna", "o'hara/1"):
        assert dataset.history(user) == ["tent", "ä%2F", "rope"]
    moments = dataset.interactions.filter(dataset.interactions["user_id"] == "anna")["timestamp"].to_list()
    assert moments == [MOMENT, MOMENT + 2, MOMENT + 4]
    rows = dataset.items.to_dicts()
    assert rows == [
        {"item_id": "rope", "title": None, "brand": None},
        {"item_id": "tent", "title": "Tent", "brand": "Alp"},
        {"item_id": "ä%2F", "title": "Null", "brand": None},
    ]
    assert (summary.left_out, summary.bad_rows) == (4, 0)
    assert "4 events of the kinds impression and dislike were left out" in summary.notes[-1]

    # Kinds may be chosen, and texts of items that the service's database does not hold come from a file.
    (tmp_path / "items.csv").write_text("item_id,title\nrope,Rope [10 m]\ntent,Older\n")
    options = ReadOptions(keep=("kind=buy",), items=tmp_path / "items.csv")
    chosen, summary = prepare(address, PrepareOptions(min_user=1, min_item=1, read=options))
    assert chosen.history("anna") == ["tent", "rope"]
    assert {row["item_id"]: row["title"] for row in chosen.items.to_dicts()} == {"rope": "Rope [10 m]", "tent": "Tent"}
    assert summary.left_out == 6


def test_the_kinds_that_are_left_out_are_those_that_the_service_ignores() -> None:
    assert list(NO_INTEREST) == ServingSettings().no_interest


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite:///{0}/none.db", "There is no database"),
        ("sqlite://", "There is no database"),
        ("sqlite:///{0}/text.db", "cannot be read as a service's database: file is not a database"),
        ("sqlite:///{0}/other.db", "cannot be read as a service's database: no such table: events"),
        ("postgresql://user:secret@127.0.0.1:1/shop", r"postgresql.*user:\*\*\*@127.0.0.1:1/shop cannot be read"),
        ("postgresql://user:secret@host:port/shop", "Received no address"),
    ],
)
def test_what_is_no_service_is_refused_in_words(tmp_path: Path, address: str, message: str) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE things (name TEXT)")
    with pytest.raises(DataError, match=message) as refused:
        prepare(address.format(tmp_path))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("attributes", ["[1]", '"text"', "null", '{"title": 3}', '{"title": ["a"]}', "{", "[" * 100_000])
def test_attributes_that_are_no_texts_are_refused(tmp_path: Path, attributes: str) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE events (number INTEGER, user_id TEXT, item_id TEXT, kind TEXT, time INTEGER)")
        database.execute("CREATE TABLE items (item_id TEXT, attributes TEXT, deleted INTEGER)")
        database.execute("INSERT INTO items VALUES ('rope', ?, 0)", (attributes,))
    database.close()
    with pytest.raises(DataError, match="cannot be read as a service's database"):
        prepare(f"sqlite:///{tmp_path}/shop.db")


def test_options_of_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="time would be ignored: Databases of a service are read with items"):
        prepare(f"sqlite:///{tmp_path}/shop.db", PrepareOptions(read=ReadOptions(time="when")))
    with pytest.raises(DataError, match="of no file's format; received 'table'"):
        prepare(f"sqlite:///{tmp_path}/shop.db", PrepareOptions(format="table"))
