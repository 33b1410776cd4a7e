from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laserrec.data.dataset import Cases, Dataset
from laserrec.data.events import Events
from laserrec.data.ragged import Ragged
from laserrec.data.splits import SplitInfo, leave_one_out
from laserrec.data.tables import SPLIT_TYPE
from laserrec.errors import DataError, UnknownIdError
from laserrec.system import atomic


def events(rows: list[tuple[str, str, int, str]]) -> pl.DataFrame:
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": SPLIT_TYPE}
    return pl.DataFrame(rows, schema=schema, orient="row")


ITEMS = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "title": ["A", None, "C", None], "brand": [None, "x", "y", None]})
EVENTS = events(
    [
        ("v", "c", 1, "train"),
        ("u", "b", 1, "train"),
        ("u", "a", 2, "train"),
        ("u", "d", 3, "valid"),
        ("u", "b", 4, "test"),
        ("u", "c", 5, "test"),
        ("w", "a", 9, "test"),
        ("v", "a", 2, "test"),
    ]
)


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.build("toy", ITEMS, EVENTS, SplitInfo("source", {}))


def rows(ragged: object) -> list[list[int]]:
    return [list(map(int, row)) for row in ragged]  # type: ignore[attr-defined]


def test_ids_and_indices(dataset: Dataset) -> None:
    assert dataset.user_ids == ("u", "v", "w")
    assert dataset.item_ids == ("a", "b", "c", "d")
    assert (dataset.item_index("c"), dataset.user_index("v")) == (2, 1)
    with pytest.raises(UnknownIdError, match="Unknown item id 'z'"):
        dataset.item_index("z")
    with pytest.raises(UnknownIdError, match="Unknown user id 'z'"):
        dataset.user_index("z")


def test_histories(dataset: Dataset) -> None:
    assert rows(dataset.histories()) == [[1, 0, 3, 1, 2], [2, 0], [0]]
    assert rows(dataset.training_histories()) == [[1, 0], [2], []]


def test_a_users_history_by_ids(dataset: Dataset) -> None:
    assert dataset.history("u") == ["b", "a", "d", "b", "c"]
    assert dataset.history("u", before="test") == ["b", "a", "d"]
    assert dataset.history("u", before="valid") == ["b", "a"]
    assert (dataset.history("v", before="valid"), dataset.history("w"), dataset.history("w", before="test")) == (["c"], ["a"], [])
    with pytest.raises(UnknownIdError, match="Unknown user id 'z'"):
        dataset.history("z")
    numbered = Dataset.build("x", ITEMS, EVENTS.with_columns(pl.lit("7").alias("user_id"))[1:6], SplitInfo("source", {}))
    with pytest.raises(UnknownIdError, match=r"Unknown user id 7\. The closest known ids are '7'"):
        numbered.history(7)  # type: ignore[arg-type]


def test_cases_are_each_users_first_event_of_a_part_with_all_before_it(dataset: Dataset) -> None:
    valid, test = dataset.cases("valid"), dataset.cases("test")
    assert (valid.users.tolist(), rows(valid.histories), valid.targets.tolist()) == ([0], [[1, 0]], [3])
    # w has no history, so no case.
    assert (test.users.tolist(), rows(test.histories), test.targets.tolist()) == ([0, 1], [[1, 0, 3], [2]], [1, 0])
    assert test.users.dtype == test.targets.dtype == np.int64
    assert test.take(np.array([1])).targets.tolist() == [0]


def test_attributes_leave_out_what_is_unknown(dataset: Dataset) -> None:
    assert dataset.attributes() == [{"title": "A"}, {"brand": "x"}, {"title": "C", "brand": "y"}, {}]


def test_attributes_as_numbers_are_those_that_several_items_share() -> None:
    brands, own = ["x", "y", None, "y", "z", "x"], list("abcdef")
    items = pl.DataFrame({"item_id": own, "title": ["A"] * 6, "sku": own, "brand": brands, "size": ["7", "7", "8", None, None, "8"]})
    data = Dataset.build("toy", items, EVENTS, SplitInfo("source", {}))
    # A number of its own, or "z", says nothing about another item.
    assert data.attribute_codes().tolist() == [[1, 1], [2, 1], [0, 2], [2, 0], [0, 0], [1, 2]]
    assert Dataset.build("toy", ITEMS, EVENTS, SplitInfo("source", {})).attribute_codes().shape == (4, 0)


def test_saved_and_loaded(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "toy"
    dataset.save(folder)
    loaded = Dataset.load(folder)
    assert loaded.items.equals(dataset.items)
    assert loaded.interactions.equals(dataset.interactions)
    assert (loaded.fingerprint, loaded.manifest, loaded.split) == (dataset.fingerprint, dataset.manifest, dataset.split)
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]
    with pytest.raises(DataError, match=r"replace it \(replace=True\)"):
        dataset.save(folder)
    dataset.save(folder, replace=True)
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_a_folder_of_an_earlier_version_whose_column_is_called_part_is_read(dataset: Dataset, tmp_path: Path) -> None:
    dataset.save(tmp_path / "toy")
    file = tmp_path / "toy" / "interactions.parquet"
    pl.read_parquet(file).rename({"split": "part"}).write_parquet(file)
    manifest = json.loads((tmp_path / "toy" / "manifest.json").read_text())
    manifest["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "toy" / "manifest.json").write_text(json.dumps(manifest))
    assert Dataset.load(tmp_path / "toy").interactions.equals(dataset.interactions)


def test_only_a_dataset_or_an_empty_folder_is_replaced(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("precious")
    (tmp_path / "tables").mkdir()
    EVENTS.write_parquet(tmp_path / "tables" / "interactions.parquet")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    for name, reason in (
        ("thesis", r"holds other files \(thesis.txt\); choose another folder"),
        ("tables", "is no dataset: it holds interactions.parquet and no manifest.json"),
        ("file", "is a file"),
        ("nowhere", "link to nothing"),
    ):
        with pytest.raises(DataError, match=reason):
            dataset.save(tmp_path / name, replace=True)
    assert (tmp_path / "thesis" / "thesis.txt").read_text() == (tmp_path / "file").read_text() == "precious"
    assert pl.read_parquet(tmp_path / "tables" / "interactions.parquet").height == EVENTS.height
    (tmp_path / "empty").mkdir()
    dataset.save(tmp_path / "empty", replace=True)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    dataset.save(tmp_path / "link", replace=True)
    assert (tmp_path / "link").is_symlink()
    assert Dataset.load(tmp_path / "empty").fingerprint == dataset.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "link", "nowhere", "tables", "thesis"]


def test_the_old_dataset_stays_where_the_new_one_cannot_be_moved(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.save(tmp_path / "toy")
    before = (tmp_path / "toy" / "manifest.json").read_bytes()
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if source.parent.suffix == ".partial":
            raise OSError("the disk is gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(atomic, "exchange", lambda *_: False)
    with pytest.raises(DataError, match=r"Cannot write the dataset to .*toy: the disk is gone"):
        dataclasses.replace(dataset, manifest=dataset.manifest | {"name": "another"}).save(tmp_path / "toy", replace=True)
    assert (tmp_path / "toy" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_fingerprint_knows_order_parts_and_catalogue_but_not_rows_texts_or_times(dataset: Dataset) -> None:
    def digest(items: pl.DataFrame, interactions: pl.DataFrame) -> str:
        return Dataset.build("x", items, interactions, SplitInfo("leave-one-out", {})).fingerprint

    assert digest(ITEMS.reverse(), EVENTS) == dataset.fingerprint
    assert digest(ITEMS.with_columns(pl.lit("t").alias("title")), EVENTS.with_columns(pl.col("timestamp") * 7)) == dataset.fingerprint
    assert digest(ITEMS, EVENTS.sort("user_id", maintain_order=True, descending=True)) == dataset.fingerprint
    swapped = EVENTS.with_columns(pl.Series("item_id", ["c", "a", "b", "d", "b", "c", "a", "a"]))
    moved = EVENTS.with_columns(pl.Series("split", ["train", "train", "train", "train", "test", "test", "test", "test"], dtype=SPLIT_TYPE))
    larger = pl.concat([ITEMS, pl.DataFrame({"item_id": ["e"], "title": ["E"], "brand": [None]}, schema=ITEMS.schema)])
    others = {digest(ITEMS, swapped), digest(ITEMS, moved), digest(larger, EVENTS), dataset.fingerprint}
    assert len(others) == 4


def test_unusable_tables_are_refused() -> None:
    split = SplitInfo("source", {})
    with pytest.raises(DataError, match="'z' occurs in the interactions"):
        Dataset.build("x", ITEMS, events([("u", "z", 1, "train")]), split)
    with pytest.raises(DataError, match="train before valid"):
        Dataset.build("x", ITEMS, events([("u", "a", 1, "test"), ("u", "b", 2, "train")]), split)
    with pytest.raises(DataError, match="differ"):
        Dataset.build("x", pl.concat([ITEMS, ITEMS]), EVENTS, split)
    with pytest.raises(DataError, match="'title'"):
        Dataset.build("x", ITEMS.drop("title"), EVENTS, split)
    with pytest.raises(DataError, match="'split'"):
        Dataset.build("x", ITEMS, EVENTS.drop("split"), split)
    with pytest.raises(DataError, match="empty"):
        Dataset.build("x", ITEMS, EVENTS.with_columns(pl.lit(None, pl.String).alias("user_id")), split)
    with pytest.raises(DataError, match="No interaction"):
        Dataset.build("x", ITEMS, EVENTS.clear(), split)


def test_a_changed_file_is_noticed(dataset: Dataset, tmp_path: Path) -> None:
    dataset.save(tmp_path / "toy")
    EVENTS.sort("user_id", maintain_order=True)[1:].write_parquet(tmp_path / "toy" / "interactions.parquet")
    with pytest.raises(DataError, match="changed or damaged"):
        Dataset.load(tmp_path / "toy")
    manifest = json.loads((tmp_path / "toy" / "manifest.json").read_text())
    manifest["files"]["interactions.parquet"] = hashlib.sha256((tmp_path / "toy" / "interactions.parquet").read_bytes()).hexdigest()
    (tmp_path / "toy" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="fingerprint"):
        Dataset.load(tmp_path / "toy")


def test_a_folder_without_a_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="laserrec data prepare"):
        Dataset.load(tmp_path)


_MANIFESTS: list[Callable[[dict[str, object]], object]] = [
    lambda manifest: [],
    lambda manifest: manifest | {"format": 99},
    lambda manifest: manifest | {"split": {"kind": "odd", "parameters": {}}},
    lambda manifest: manifest | {"split": {"kind": ["odd"], "parameters": {}}},
    lambda manifest: manifest | {"split": None},
    lambda manifest: manifest | {"fingerprint": 3},
    lambda manifest: {"name": "x"},
    lambda manifest: manifest | {"files": None},
    lambda manifest: manifest | {"files": {}},
]


@pytest.mark.parametrize("change", _MANIFESTS)
def test_a_damaged_manifest_is_refused(dataset: Dataset, tmp_path: Path, change: Callable[[dict[str, object]], object]) -> None:
    dataset.save(tmp_path / "toy")
    manifest = tmp_path / "toy" / "manifest.json"
    manifest.write_text(json.dumps(change(json.loads(manifest.read_text()))))
    with pytest.raises(DataError):
        Dataset.load(tmp_path / "toy")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.sampled_from(["items.parquet", "interactions.parquet", "manifest.json"]),
    content=st.binary(max_size=200),
    cut=st.integers(0, 900),
)
def test_garbage_gives_a_data_error(tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes, cut: int) -> None:
    folder = tmp_path_factory.mktemp("garbage") / "toy"
    Dataset.build("toy", ITEMS, EVENTS, SplitInfo("source", {})).save(folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:cut] + content + whole[cut + len(content) :])
    try:
        loaded = Dataset.load(folder)
    except DataError:
        return
    assert loaded.fingerprint  # the change happened to be harmless


@given(st.lists(st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcd")), min_size=1, max_size=40))
def test_cases_of_leave_one_out_equal_slicing_lists(pairs: list[tuple[str, str]]) -> None:
    table = pl.DataFrame({"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs], "timestamp": range(len(pairs))})
    divided, split = leave_one_out(Events.of(table.sort("user_id", maintain_order=True)))
    dataset = Dataset.build("x", ITEMS, divided.frame(), split)
    sequences = [["abcd".index(i) for u, i in pairs if u == user] for user in sorted({u for u, _ in pairs})]
    long = [sequence for sequence in sequences if len(sequence) >= 3]
    assert rows(dataset.training_histories()) == [sequence[:-2] if len(sequence) >= 3 else sequence for sequence in sequences]
    assert rows(dataset.cases("valid").histories) == [sequence[:-2] for sequence in long]
    assert rows(dataset.cases("test").histories) == [sequence[:-1] for sequence in long]
    tested = [dataset.user_ids[user] for user in dataset.cases("test").users]
    assert [[dataset.item_index(item) for item in dataset.history(user, before="test")] for user in tested] == [row[:-1] for row in long]
    assert dataset.cases("valid").targets.tolist() == [sequence[-2] for sequence in long]
    assert dataset.cases("test").targets.tolist() == [sequence[-1] for sequence in long]


def test_a_sample_of_cases_is_drawn_from_its_seed_and_keeps_their_order() -> None:
    cases = Cases(np.arange(50) * 2, Ragged.from_rows([[row] for row in range(50)]), np.arange(50) + 100)
    drawn = cases.sample(10, seed=3)
    assert len(set(drawn.users.tolist())) == 10
    assert drawn.users.tolist() == sorted(drawn.users)
    assert all(
        (user // 2, user // 2 + 100) == (row[0], target)
        for user, row, target in zip(drawn.users, drawn.histories, drawn.targets, strict=True)
    )
    assert drawn.users.tolist() == cases.sample(10, seed=3).users.tolist() != cases.sample(10, seed=4).users.tolist()
    # Drawn from everywhere: ten of the first, or of every fifth, would not be.
    assert len({int(user) // 20 for seed in range(20) for user in cases.sample(10, seed=seed).users}) == 5
    assert cases.sample(50, seed=3) is cases.sample(90, seed=3) is cases
