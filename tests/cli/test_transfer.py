"""`laserrec data restrict` and `laserrec transfer`, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from laserrec import Dataset, Laser
from laserrec.errors import DataError

Run = Callable[..., tuple[int, str, str]]


def test_fewer_users_and_hidden_items(laserrec: Run, shop: Path) -> None:
    code, out, _ = laserrec("data", "restrict", "data", "--users", "0.5", "--out", "half")
    assert code == 0
    assert "shop, 50% of users" in out
    assert "20 events of 4 users to learn from, 4 validation and 8 test cases" in out
    assert laserrec("data", "restrict", "data", "--hidden-items", "0.2", "--out", "cold")[0] == 0
    assert Dataset.load(shop / "cold").details["restricted"][0]["hidden_items"] == 0.2
    assert laserrec("train", "--data", "half", "--config", "laser.toml", "--out", "half-run", "--json")[0] == 0


@pytest.mark.parametrize("given", [(), ("--users", "0.5", "--hidden-items", "0.1")])
def test_one_restriction_at_a_time(laserrec: Run, given: tuple[str, ...]) -> None:
    code, _, err = laserrec("data", "restrict", "data", "--out", "other", *given)
    assert code == 2
    assert "Give one of --users and --hidden-items" in err


def test_a_run_is_carried_over_and_appears_when_complete(
    laserrec: Run, shop: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise DataError("the disk is full")

        broken.setattr(Laser, "evaluate", fail)
        assert laserrec("transfer", "run", "--data", "elsewhere", "--out", "moved")[0] == 1
    assert not (shop / "moved").exists()
    code, out, _ = laserrec("transfer", "run", "--data", "elsewhere", "--out", "moved", "--json")
    assert code == 0
    found = json.loads(out)
    assert [result["split"] for result in found["results"]] == ["valid", "test"]
    assert {result["cases"] for result in found["results"]} == {3}
    assert Dataset.load(elsewhere).fingerprint == found["results"][0]["fingerprint"]
    assert laserrec("evaluate", "moved")[0] == 0  # it finds its dataset and its model
    code, _, err = laserrec("transfer", "run", "--data", "elsewhere", "--out", "moved")
    assert code == 1
    assert "exists and is not empty" in err
    assert not list(shop.glob(".moved*"))


@pytest.mark.usefixtures("elsewhere")
def test_what_does_not_fit_is_refused_before_anything_is_trained(laserrec: Run, shop: Path) -> None:
    words = ("train", "--data", "elsewhere", "--config", "laser.toml", "--out", "started", "--set", "start=run")
    code, _, err = laserrec(*words, "--set", "virtual.prefix_length=5")
    assert code == 1
    assert "virtual.prefix_length = 5 (the model's: 2)" in err
    assert not (shop / "started").exists()
    assert laserrec(*words)[0] == 0
    start = json.loads((shop / "started" / "run.json").read_text())["config"]["start"]
    assert Path(start) == (shop / "run").resolve()
