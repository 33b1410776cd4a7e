"""`laserrec export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

Run = Callable[..., tuple[int, str, str]]


def test_items_and_users(laserrec: Run, shop: Path) -> None:
    code, out, _ = laserrec("export", "run", "--out", "vectors")
    assert (code, out.split()) == (0, ["vectors/items.parquet", "vectors/users.parquet"])
    assert pl.read_parquet(shop / "vectors" / "users.parquet")["id"].to_list() == [
        "anna",
        "ben",
        "carla",
        "dan",
        "eva",
        "finn",
        "gita",
        "hugo",
    ]


def test_a_model_without_a_dataset(laserrec: Run, shop: Path) -> None:
    code, _, err = laserrec("export", "run/model", "--out", "vectors")
    assert (code, "Give one with --data" in err) == (1, True)
    assert not (shop / "vectors").exists()
    assert laserrec("export", "run/model", "--out", "vectors", "--no-users")[1].split() == ["vectors/items.parquet"]
    assert laserrec("export", "run/model", "--out", "vectors", "--no-users", "--data", "data")[0] == 2
