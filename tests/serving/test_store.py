"""Every promise of a store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from laserrec.errors import ConfigError, StoreError
from laserrec.serving.sql_store import SqlStore
from laserrec.serving.store import Event, Item, ItemChange, Key, Shown
from laserrec.serving.tables import metadata

HOSTILE = "x'); DROP TABLE events; -- % %s :name \\ \" 名 💥"


def event(item_id: str, time: int, event_id: str | None = None, user_id: str = "anna", kind: str = "buy") -> Event:
    return Event(user_id, item_id, kind, time, event_id)


def taken(events: Sequence[Event]) -> list[str]:
    return [one.item_id for one in events]


def test_migrations_make_the_tables_and_run_again_on_what_is_there(address: str) -> None:
    SqlStore.open(address).close()
    store = SqlStore.open(address)
    with store._engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    store.close()
    assert differences == []


def test_many_replicas_may_start_at_once(address: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: SqlStore.open(address), range(4)))
    assert stores[0].add_events([event("tent", 1)]) == [True]
    assert all(taken(store.history("anna", 9)) == ["tent"] for store in stores)
    for store in stores:
        store.close()


def test_a_history_is_in_order_of_time_and_arrival_and_ends_with_the_latest(store: SqlStore) -> None:
    store.add_events([event("b", 20), event("a", 10), event("c", 20), event("other", 15, user_id="ben")])
    store.add_events([event("d", 5)])
    assert taken(store.history("anna", 9)) == ["d", "a", "b", "c"]
    assert taken(store.history("anna", 2)) == ["b", "c"]
    assert store.history("nobody", 9) == []
    assert store.history("ben", 9) == [event("other", 15, user_id="ben")]


def test_the_same_event_id_twice_is_one_event(store: SqlStore) -> None:
    first = [event("a", 1, "e1"), event("b", 2), event("a", 1, "e1"), event("c", 3, "e2")]
    assert store.add_events(first) == [True, True, False, True]
    assert store.add_events([event("z", 9, "e2"), event("d", 4, "e3"), event("b", 5)]) == [False, True, True]
    assert taken(store.history("anna", 9)) == ["a", "b", "c", "d", "b"]
    assert store.add_events([]) == []


def test_one_event_id_from_many_threads_at_once_is_one_event(store: SqlStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda place: store.add_events([event(f"i{place}", place, "same"), event("x", place)]), range(20)))
    assert sum(first for first, _ in answers) == 1
    assert len(store.history("anna", 99)) == 21


def test_more_events_than_one_statement_holds(store: SqlStore) -> None:
    many = [event(f"i{place}", place, f"e{place % 2500}") for place in range(2600)]
    assert sum(store.add_events(many)) == 2500
    assert len(list(store.all_events())) == 2500
    assert taken(store.all_events())[:3] == ["i0", "i1", "i2"]


def test_text_is_data_everywhere(store: SqlStore) -> None:
    store.add_events([Event(HOSTILE, HOSTILE, HOSTILE, 1, HOSTILE, HOSTILE)])
    store.change_items([ItemChange(HOSTILE, {HOSTILE: HOSTILE})])
    assert store.history(HOSTILE, 1) == [Event(HOSTILE, HOSTILE, HOSTILE, 1, HOSTILE, HOSTILE)]
    assert store.item(HOSTILE) == Item(HOSTILE, {HOSTILE: HOSTILE}, change=1)
    assert store.popularity([HOSTILE]) == {}
    assert store.erase_user(HOSTILE) == 1


def test_popularity_counts_events_of_interest(store: SqlStore) -> None:
    store.add_events([event("a", 1), event("a", 2), event("b", 3), event("b", 4, kind="impression"), event("c", 5, kind="dislike")])
    assert store.popularity(["impression", "dislike"]) == {"a": 2, "b": 1}
    assert store.popularity([]) == {"a": 2, "b": 2, "c": 1}


def test_latest_users_come_once_each(store: SqlStore) -> None:
    store.add_events([event("a", place, user_id=user) for place, user in enumerate(["anna", "ben", "anna", "carla"])])
    assert store.latest_users(2) == ["carla", "anna"]
    assert sorted(store.latest_users(9)) == ["anna", "ben", "carla"]


def test_items_change_a_part_or_as_a_whole(store: SqlStore) -> None:
    (made,) = store.change_items([ItemChange("tent", {"title": "Tent", "brand": "Alp"}, available_until=50)])
    assert made == Item("tent", {"title": "Tent", "brand": "Alp"}, False, 50, False, 1)
    (patched,) = store.change_items([ItemChange("tent", {"brand": None, "colour": "red"}, hidden=True)])
    assert patched == Item("tent", {"title": "Tent", "colour": "red"}, True, 50, False, 2)
    (forever,) = store.change_items([ItemChange("tent", available_until=0, hidden=False)])
    assert forever == Item("tent", {"title": "Tent", "colour": "red"}, False, None, False, 3)
    (replaced,) = store.change_items([ItemChange("tent", {"title": "Tent 2"}, replace=True)])
    assert replaced == store.item("tent") == Item("tent", {"title": "Tent 2"}, False, None, False, 4)
    (gone,) = store.change_items([ItemChange("tent", deleted=True)])
    assert gone == Item("tent", {}, False, None, True, 5)
    (again,) = store.change_items([ItemChange("tent", {"title": "Tent 3"}, known={"title": "old", "brand": "old"})])
    assert again == Item("tent", {"title": "Tent 3"}, False, None, False, 6)
    assert store.item("stove") is None


def test_a_part_of_an_item_that_only_the_model_knows(store: SqlStore) -> None:
    (patched,) = store.change_items([ItemChange("map", {"title": "Map 2"}, known={"title": "Map", "brand": "Alp"})])
    assert patched.attributes == {"title": "Map 2", "brand": "Alp"}
    (put,) = store.change_items([ItemChange("kite", {"title": "Kite 2"}, replace=True, known={"title": "Kite", "brand": "Alp"})])
    assert put.attributes == {"title": "Kite 2"}


def test_several_changes_of_one_item_in_one_call_follow_each_other(store: SqlStore) -> None:
    after = store.change_items([ItemChange("a", {"title": "A"}), ItemChange("b", {"title": "B"}), ItemChange("a", {"brand": "X"})])
    assert [item.change for item in after] == [1, 2, 3]
    assert store.item("a") == Item("a", {"title": "A", "brand": "X"}, change=3)


def test_whoever_follows_changes_misses_none(store: SqlStore) -> None:
    """Four writers at once; a reader that asks for what came after the last number it saw, as a replica does."""
    seen: dict[str, Item] = {}
    last = 0
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(store.change_items, [ItemChange(f"i{place % 17}", {"title": str(place)})]) for place in range(120)]
        while not all(write.done() for write in writes) or store.items_since(last, 1):
            for item in store.items_since(last, 5):
                assert item.change > last
                last, seen[item.item_id] = item.change, item
    assert last == 120
    assert seen == {f"i{place}": store.item(f"i{place}") for place in range(17)}


def test_erasing_leaves_nothing_of_a_user(store: SqlStore, address: str, tmp_path: Path) -> None:
    secret = f"user-{random.Random(5).getrandbits(64)}"
    store.add_events([event(f"i{place}", place, user_id=secret) for place in range(500)] + [event("a", 1)])
    assert store.erase_user(secret) == 500
    assert store.history(secret, 9) == []
    assert store.erase_user(secret) == 0
    assert taken(store.history("anna", 9)) == ["a"]
    if address.startswith("sqlite"):
        assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_recommendations_are_kept_once(store: SqlStore) -> None:
    shown = [Shown("r2", "m", 7, ["b", "a"]), Shown("r1", "m", 8, [])]
    store.add_recommendations(shown)
    store.add_recommendations(shown)
    store.add_recommendations([])
    assert list(store.all_recommendations()) == [shown[1], shown[0]]


def test_answers_and_hits_of_each_model(store: SqlStore) -> None:
    store.add_recommendations([Shown(f"r{place}", "a@1" if place < 4 else "b@2", 1, ["tent"]) for place in range(7)])
    followed = [("r0", "buy"), ("r0", "buy"), ("r1", "impression"), ("r5", "view"), ("r6", "buy"), ("absent", "buy"), (None, "buy")]
    store.add_events([Event("anna", "tent", kind, 1, None, answer) for answer, kind in followed])
    assert store.attribution(["impression"]) == {"a@1": (4, 1), "b@2": (3, 2)}
    assert store.attribution([]) == {"a@1": (4, 2), "b@2": (3, 2)}


def test_keys_come_and_go(store: SqlStore) -> None:
    keys = [Key("k1", "00ff", "read", 1), Key("k2", "11ee", "admin", 2)]
    for key in keys:
        store.add_key(key)
    assert store.access_keys() == keys
    assert store.remove_key("k1")
    assert not store.remove_key("k1")
    assert store.access_keys() == keys[1:]


def test_a_call_that_fails_leaves_nothing(store: SqlStore) -> None:
    far_too_late = event("b", 2**70)
    with pytest.raises((StoreError, OverflowError)):  # SQLite's driver refuses the number, PostgreSQL's server does
        store.add_events([*(event("a", place) for place in range(1500)), far_too_late])
    assert store.history("anna", 9) == []


def test_sqlite_waits_for_the_disk_and_overwrites_what_is_deleted(tmp_path: Path) -> None:
    store = SqlStore.open(f"sqlite:///{tmp_path / 'a.db'}")
    with store._engine.connect() as connection:
        settings = [connection.execute(sa.text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "secure_delete")]
    store.close()
    assert settings == ["wal", 2, 1]


@pytest.mark.parametrize("address", ["", "store.db", "mysql://a:geheim@b/c", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///FILE") as refused:
        SqlStore.open(address)
    assert "geheim" not in str(refused.value)


def test_a_store_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not answer") as refused:
        SqlStore.open("postgresql://anna:geheim@127.0.0.1:1/shop")
    assert "geheim" not in str(refused.value)
    with pytest.raises(StoreError):
        SqlStore.open(f"sqlite:///{tmp_path / 'missing' / 'store.db'}")
