"""The same item has the same text, whether a catalogue was prepared with it, it is added later, or its title is all that is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from laserrec import Laser, PrepareOptions, ReadOptions, prepare
from laserrec.data.prompts import Template
from laserrec.errors import DataError

SPELLINGS: list[dict[str, Any]] = [
    {"item_id": "new", "title": "Café table &amp; chair", "brand": "Alp"},
    {"item_id": "new", "brand": "Alp", "title": "Caf&eacute; table & chair"},
    {"item_id": "new", "title": "  Café\ttable &  chair ", "brand": " Alp\n"},
    {"item_id": "new", "Title": "Café table & chair", "BRAND": "Alp"},
    {"item_id": "new", "title": "Café table & chair", "brand": "Alp", "colour": "red", "size": 7},
    {"Item_ID": " new ", "title": "Café table & chair", "brand": ["Alp"]},
]


@pytest.mark.parametrize("spelling", range(len(SPELLINGS)))
def test_an_added_item_has_the_text_that_a_prepared_one_has(laser: Laser, tmp_path: Path, spelling: int) -> None:
    item = SPELLINGS[spelling]
    (tmp_path / "items.jsonl").write_text(json.dumps({name.strip().lower(): value for name, value in item.items()}) + "\n")
    (tmp_path / "log.csv").write_text("user,item,time\nu,new,1\n")
    options = PrepareOptions(min_user=1, min_item=1, read=ReadOptions(items=tmp_path / "items.jsonl", attributes=("brand",)))
    data, _ = prepare(tmp_path / "log.csv", options)
    laser.add_items([item])
    assert laser.item_ids[-1] == "new"
    template = laser._system.catalogue.texts.template  # what the language model reads
    text = template.item_text(laser._system.catalogue.texts.items[-1])
    assert text == Template(laser.config.prompt).item_text(data.attributes()[0]) == "Café table & chair (brand: Alp)"
    laser.add_items([SPELLINGS[0] | {"item_id": "again"}])
    (row,) = laser.recommend([["tent"]], k=20)
    scores = {found.item_id: found.score for found in row}
    assert scores["again"] == pytest.approx(scores["new"], abs=1e-5)


def test_what_the_catalogue_lacks_is_kept_but_not_read_also_after_loading(laser: Laser, tmp_path: Path) -> None:
    laser.add_items([{"item_id": "new", "colour": "red", "title": "Canoe", "brand": "Alp"}])
    assert laser.catalogue[-1] == {"item_id": "new", "title": "Canoe", "brand": "Alp", "colour": "red"}
    laser.save(tmp_path / "model")
    again = Laser.load(tmp_path / "model")
    assert again.catalogue == laser.catalogue
    assert again._system.catalogue.texts.template.columns == laser._system.catalogue.texts.template.columns == ("title", "brand")
    later = {"item_id": "later", "brand": "Alp", "title": "Raft", "colour": "red"}
    for model in (laser, again):
        model.add_items([later])
        assert model._system.catalogue.texts.template.item_text(model._system.catalogue.texts.items[-1]) == "Raft (brand: Alp)"


def test_a_recommended_text_is_read_as_a_title_is(laser: Laser) -> None:
    plain = laser.recommend_texts([["Café & boat"]], k=5)
    assert laser.recommend_texts([[" Caf&eacute;  &amp; boat\n"]], k=5) == plain
    for blank in ("", "  ", "&nbsp;", "NaN", "\n"):
        with pytest.raises(DataError, match="which says nothing"):
            laser.recommend_texts([["Boat", blank]])
        with pytest.raises(DataError, match="has no text"):
            laser.add_items([{"item_id": "blank", "title": blank}])
    assert laser.recommend_texts([["Café & boat"]], k=5) == plain


def test_numbers_are_written_as_prepare_writes_them(laser: Laser, tmp_path: Path) -> None:
    pl.DataFrame({"item": [7], "title": [1984.0]}).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "log.csv").write_text("user,item,time\nu,7,1\n")
    read = ReadOptions(items=tmp_path / "items.parquet")
    data, _ = prepare(tmp_path / "log.csv", PrepareOptions(min_user=1, min_item=1, read=read))
    laser.add_items([{"item_id": 7, "title": 1984.0}])
    assert laser.catalogue[-1] == {"item_id": "7", "title": "1984"} == {"item_id": data.item_ids[0], **data.attributes()[0]}
