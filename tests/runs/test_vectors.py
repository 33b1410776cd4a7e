"""Vectors for other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_shop import after

from laserrec import Dataset, Laser
from laserrec.errors import DataError, UnknownIdError
from laserrec.runs.vectors import export_vectors, item_frame, user_frames


def test_inner_products_are_the_language_models_term(trained: Laser, data: Dataset, tmp_path: Path) -> None:
    done: list[int] = []
    assert export_vectors(trained, data, tmp_path / "new", done.append) == [
        tmp_path / "new" / f"{what}.parquet" for what in ("items", "users")
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["items.parquet", "users.parquet"]
    assert done[-1] == len(data.user_ids)
    items, users = (pl.read_parquet(tmp_path / "new" / f"{what}.parquet") for what in ("items", "users"))
    assert items["vector"].dtype == users["vector"].dtype == pl.Array(pl.Float32, trained.item_vectors().shape[1])
    assert items["id"].to_list() == trained.item_ids
    assert users["id"].to_list() == list(data.user_ids)
    products = users["vector"].to_numpy() @ items["vector"].to_numpy().T
    histories = [data.history(user) for user in users["id"]]
    explained = trained.explain(histories, item_ids=[trained.item_ids] * len(histories))
    terms = np.array([[one.terms.language_model for one in row] for row in explained])
    assert (np.argsort(-products, axis=1) == np.argsort(-terms, axis=1)).all()
    scale = terms[0, 0] / products[0, 0]
    np.testing.assert_allclose(scale * products, terms, rtol=1e-4, atol=1e-4 * abs(scale))


def test_columns(trained: Laser, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = item_frame(trained)
    assert frame.columns == ["id", "title", "brand", "x", "y", "vector"]
    assert frame["title"].to_list() == [trained.title(item_id) for item_id in trained.item_ids]
    assert frame["brand"].to_list() == [item.get("brand") for item in trained.catalogue]
    np.testing.assert_array_equal(frame.select("x", "y").to_numpy(), trained.item_map().places)
    monkeypatch.setattr("laserrec.runs.vectors.HISTORIES", 4)
    frames = list(user_frames(trained, data))
    assert [len(each) for each in frames] == [4, 4, 3]
    first = frames[0].row(0, named=True)
    history = after(0, 7)
    assert (first["id"], first["title"], first["items"]) == ("user-00", trained.title(history[-1]), 7)


def test_an_attribute_with_the_name_of_a_column(laser: Laser) -> None:
    shown = [{**item, "x": "left"} for item in laser.catalogue]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Laser, "catalogue", property(lambda _: shown))
        assert item_frame(laser)["item_x"].unique().to_list() == ["left"]
        shown[0]["item_x"] = "right"
        with pytest.raises(DataError, match="'x' and 'item_x' would be one column"):
            item_frame(laser)


def test_items_alone_and_a_place_that_is_a_file(trained: Laser, data: Dataset, tmp_path: Path) -> None:
    assert [path.name for path in export_vectors(trained, None, tmp_path)] == ["items.parquet"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot write"):
        export_vectors(trained, data, tmp_path / "file")


def test_a_folder_whose_name_looks_like_a_pattern(trained: Laser, data: Dataset, tmp_path: Path) -> None:
    export_vectors(trained, data, tmp_path / "we[1]rd*")
    assert len(pl.read_parquet((tmp_path / "we[1]rd*" / "users.parquet").read_bytes())) == len(data.user_ids)


def test_users_with_unknown_items_leave_the_folder_as_it_was(laser: Laser, data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_text("earlier")
    laser.remove_items([data.item_ids[0]])
    with pytest.raises(UnknownIdError):
        export_vectors(laser, data, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]
