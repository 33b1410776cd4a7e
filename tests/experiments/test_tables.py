"""Tables of documents are made from results: the rows that were asked for, the best last, published ones below."""

from __future__ import annotations

from typing import Any

import pytest
import tables


def compared() -> dict[str, Any]:
    def row(name: str, mean: float, deviation: float | None) -> dict[str, Any]:
        return {"name": name, "figures": {metric: {"mean": mean, "deviation": deviation} for metric in tables.METRICS}}

    full = [row("Laser", 0.2, 0.0012), row("SASRec", 0.1, None), row("FDSA", 0.15, None)]
    left_out = [row("Laser", 0.25, 0.0034), row("SASRec", 0.125, None), row("FDSA", 0.15, None)]
    published = [{"name": "VQ-Rec", "metrics": dict.fromkeys(tables.METRICS, 0.0643)}]
    return {"tables": [{"protocol": "full", "rows": full, "published": published}, {"protocol": "filter_seen", "rows": left_out}]}


def test_the_best_stands_last_and_published_ones_below() -> None:
    lines = tables.table(compared(), ["Laser", "published VQ-Rec", "SASRec"]).splitlines()
    assert lines[2:] == [
        "| SASRec | .1000 | .1000 | .1000 | .1250 | .1250 | .1250 |",
        "| **Laser** | .2000±.0012 | .2000±.0012 | .2000±.0012 | .2500±.0034 | .2500±.0034 | .2500±.0034 |",
        "| *published:* VQ-Rec | .0643 | .0643 | .0643 |  |  |  |",
    ]


def test_a_star_is_every_row() -> None:
    assert len(tables.table(compared(), ["*"]).splitlines()) == 2 + 3 + 1


def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SystemExit, match="No row of the results is named \\['EASE'\\]"):
        tables.table(compared(), ["Laser", "EASE"])


def test_rows_of_a_second_file_are_added_once_and_of_one_split_alone() -> None:
    first, other = compared(), compared()
    for each in other["tables"]:
        each["rows"].append({**each["rows"][0], "name": "EASE"})
    first["fingerprint"] = other["fingerprint"] = "ab"
    tables.add_rows(first, other)
    assert [row["name"] for row in first["tables"][1]["rows"]] == ["Laser", "SASRec", "FDSA", "EASE"]
    with pytest.raises(SystemExit, match="different splits make no table: ab and cd"):
        tables.add_rows(first, {**other, "fingerprint": "cd"})
