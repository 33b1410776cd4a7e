"""`laserrec serve`, `serve keys` and `store`, as typed."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import small_shop

from laserrec.errors import DataError
from laserrec.serving import backup
from laserrec.serving.access import scope_of
from laserrec.serving.sql_store import SqlStore
from laserrec.serving.store import Event, Item, ItemChange, Shown

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def laserrec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command line in an empty folder and returns its exit code, stdout and stderr."""
    from laserrec.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["laserrec", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return run


def test_a_key_is_shown_once_and_can_be_removed(laserrec: Run, tmp_path: Path) -> None:
    code, out, err = laserrec("serve", "keys", "create", "--scope", "write")
    text = out.strip()
    assert code == 0
    assert re.fullmatch(r"lr_[0-9a-f]{8}_[\w-]{43}", text)
    assert "It is not shown again" in err
    store = SqlStore.open(f"sqlite:///{tmp_path / 'laserrec.db'}")
    (key,) = store.access_keys()
    assert scope_of(text, {key.key_id: key}) == key.scope == "write"
    assert text.encode() not in (tmp_path / "laserrec.db").read_bytes()
    assert laserrec("serve", "keys", "remove", key.key_id)[:2] == (0, f"Removed {key.key_id}.\n")
    assert laserrec("serve", "keys", "remove", key.key_id) == (1, "", f"error: There is no key '{key.key_id}'; there are: none.\n")
    store.close()


def test_other_machines_are_served_with_a_key_alone(laserrec: Run, model_folder: Path) -> None:
    code, _, err = laserrec("serve", model_folder, "--host", "0.0.0.0", "--port", 0)
    assert code == 1
    assert "the store holds no key. Make one with: laserrec serve keys create --scope admin --store sqlite:///laserrec.db" in err


def test_a_port_that_is_taken_is_named(laserrec: Run, model_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = laserrec("serve", model_folder, "--port", port)
    assert code == 1
    assert f"Cannot listen on 127.0.0.1, port {port}: Address already in use. Choose another host or port." in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "absent", "--port", "0"], "absent"),
        (["serve", "some-run", "--set", "deadline"], "expected is NAME=VALUE"),
        (["serve", "some-run", "--set", "deadlin=1"], "unknown setting 'deadlin'"),
        (["serve", "some-run", "--set", "deadline=-1"], "deadline: Input should be greater than 0; received '-1'"),
        (["serve", "some-run", "--store", "mysql://a"], "Give sqlite:///FILE"),
        (["serve", "some-run", "--model", "runs/b"], "expected is NAME=RUN:SHARE"),
        (["serve", "some-run", "--model", "b=runs/b:2"], "expected is NAME=RUN:SHARE"),
        (["serve", "some-run", "--model", "b=runs/b:.5", "--model", "c=runs/c:0.5"], "leave 0 of the users to some-run"),
        (["store", "import", "absent.jsonl"], "Cannot read absent.jsonl"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(laserrec: Run, words: list[str], message: str) -> None:
    code, out, err = laserrec(*words)
    assert code == 1
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_without_the_extra_the_command_that_installs_it_is_said(laserrec: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laserrec.cli.serve.find_spec", lambda name: None if name == "uvicorn" else object())
    code, _, err = laserrec("serve", "some-run")
    assert code == 1
    assert err == "error: The service needs the package 'uvicorn', which is not installed. Run: pip install 'laserrec[serve]'\n"


EVENTS = [Event("anna", "tent", "buy", 1, "e1", "r1"), Event("anna", "map", "buy", 2), Event("名 💥", "i\\\"'", "dislike", 3)]
SHOWN = Shown("r1", "default@abc", 4, ["tent", "map"])


def fill(store: SqlStore) -> None:
    store.add_events(EVENTS)
    store.change_items([ItemChange("boat", {"title": "Boat"}, hidden=True, available_until=9), ItemChange("kite", deleted=True)])
    store.add_recommendations([SHOWN])


def test_a_backup_of_one_database_fills_another(laserrec: Run, address: str, tmp_path: Path) -> None:
    store = SqlStore.open(address)
    fill(store)
    store.close()
    code, out, _ = laserrec("store", "export", "backup.jsonl", "--store", address)
    assert (code, out) == (0, "backup.jsonl: 3 events, 2 items, 1 recommendations\n")
    assert laserrec("store", "import", "backup.jsonl")[:2] == (0, "backup.jsonl: 3 new events, 2 new items, 1 new recommendations\n")
    copy = SqlStore.open(f"sqlite:///{tmp_path / 'laserrec.db'}")
    assert list(copy.all_events()) == EVENTS
    assert copy.items_since(0, 9) == [Item("boat", {"title": "Boat"}, True, 9, False, 1), Item("kite", {}, deleted=True, change=2)]
    assert list(copy.all_recommendations()) == [SHOWN]
    copy.close()
    code, _, err = laserrec("store", "import", "backup.jsonl")
    assert code == 1
    assert "holds events or items already" in err


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nothing",
        "[]",
        '{"event": {}}',
        '{"event": null}',
        '{"user": {"user_id": "anna"}}',
        '{"event": {"user_id": "anna", "item_id": 3, "kind": "buy", "time": 1}}',
        '{"event": {"user_id": "anna", "item_id": "a", "kind": "buy", "time": 1, "more": 2}}',
        '{"event": {"user_id": "anna", "item_id": "a", "kind": "buy", "time": "1"}}',
        '{"item": {"item_id": "a", "attributes": {"title": 3}}}',
        "[" * 100_000,
    ],
    ids=range(11),
)
def test_a_line_that_no_export_wrote_is_refused_and_nothing_is_read(tmp_path: Path, line: str) -> None:
    store = SqlStore.open(f"sqlite:///{tmp_path / 'a.db'}")
    good = json.dumps({"event": vars(EVENTS[0])})
    (tmp_path / "backup.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError, match=r"backup\.jsonl, line 2 is not as"):
        backup.import_file(store, tmp_path / "backup.jsonl")
    assert list(store.all_events()) == []
    store.close()


def test_a_dataset_fills_the_store_once(laserrec: Run, tmp_path: Path) -> None:
    data = small_shop.dataset(users=3)
    data.save(tmp_path / "data")
    assert laserrec("store", "import", "data")[:2] == (0, "data: 21 new events\n")
    assert laserrec("store", "import", "data")[:2] == (0, "data: 0 new events\n")
    store = SqlStore.open(f"sqlite:///{tmp_path / 'laserrec.db'}")
    for user_id in data.user_ids:
        assert [event.item_id for event in store.history(user_id, 99)] == data.history(user_id)
    store.close()
