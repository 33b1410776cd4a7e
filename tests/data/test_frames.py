"""Tables in memory are prepared as files are."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laserrec import Dataset, PrepareOptions, ReadOptions, Tables, prepare
from laserrec.data.sources import read_source
from laserrec.errors import BadRowsError, DataError

ALL = PrepareOptions(min_user=1, min_item=1)
LOG = pl.DataFrame({"user": ["ann", "ann", "ann", "bob", "ann"], "sku": [7, 8, 9, 7, 7], "when": [30, 10, 20, 5, 40]})
THINGS = pl.DataFrame(
    {"sku": [7, 8, 10], "name": ["Lamp  no. 1", " ", "Bed"], "made": [date(2020, 1, 2), None, None], "tags": [["a", "b"], [], None]}
)


def events(interactions: object, **options: Any) -> list[tuple[str, str, int]]:  # noqa: ANN401 - of ReadOptions
    raw = read_source(Tables(interactions), None, ReadOptions(**options))  # type: ignore[arg-type]
    return raw.interactions.select("user_id", "item_id", pl.col("timestamp") // 1_000_000).rows()


def test_a_log_and_its_items(tmp_path: Path) -> None:
    dataset, summary = prepare(Tables(LOG, THINGS, name="lamps"), ALL)
    assert dataset.interactions.rows() == [
        ("ann", "8", 10, "train"),
        ("ann", "9", 20, "train"),
        ("ann", "7", 30, "valid"),
        ("ann", "7", 40, "test"),
        ("bob", "7", 5, "train"),
    ]
    # 8 has a blank name; 9 is not among the items, 10 in no event.
    assert dataset.attributes() == [{"title": "Lamp no. 1", "made": "2020-01-02", "tags": "a, b"}, {}, {}]
    assert (dataset.name, summary.format, summary.rows, summary.unknown_items, summary.unused_items) == ("lamps", "frames", 8, 1, 1)
    assert summary.columns == {"user": "user", "item": "sku", "time": "when", "item id": "sku", "title": "name", "attributes": "made, tags"}
    dataset.save(tmp_path / "lamps")
    loaded = Dataset.load(tmp_path / "lamps")
    assert loaded.fingerprint == dataset.fingerprint
    assert (loaded.manifest["source"]["format"], loaded.manifest["source"]["files"]) == ("frames", [])


def test_the_same_as_from_files(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    LOG.write_parquet(tmp_path / "log.parquet")
    memory = prepare(Tables(LOG), ALL)[0]
    for name in ("log.csv", "log.parquet"):
        file = prepare(str(tmp_path / name), ALL)[0]
        assert (file.fingerprint, file.interactions.rows()) == (memory.fingerprint, memory.interactions.rows())


@pytest.mark.parametrize(
    ("times", "options"),
    [
        ([1_500_000_000], {}),
        ([1_500_000_000_000], {}),
        ([1.5e9], {}),
        ([datetime(2017, 7, 14, 2, 40)], {}),
        ([datetime(2017, 7, 14, 2, 40, tzinfo=UTC)], {}),
        (["2017-07-14T02:40:00"], {}),
        (["1500000000"], {}),
        (["14.07.2017 02:40"], {"time_format": "%d.%m.%Y %H:%M"}),
    ],
)
def test_a_moment_in_many_types(times: list[object], options: dict[str, Any]) -> None:
    assert events(pl.DataFrame({"user": ["u"], "item": ["i"], "time": times}), **options) == [("u", "i", 1_500_000_000)]


def test_columns_are_told_and_order_may_be_the_rows() -> None:
    frame = pl.DataFrame({"who": ["u", "u"], "what": ["b", "a"]})
    with pytest.raises(DataError, match=r"interactions: cannot tell which column is the user; it has 'who', 'what'"):
        events(frame)
    assert events(frame, user="who", item="what", file_order=True) == [("u", "b", 0), ("u", "a", 1)]


def test_bad_rows_are_counted_with_their_numbers() -> None:
    frame = pl.DataFrame({"user": ["u", None, "u", "u", "v"], "item": ["a", "b", " ", "c", "d"], "time": ["1", "2", "3", "soon", "5"]})
    things = pl.DataFrame({"item": ["a", None, "a"], "title": ["A", "B", "Other"]})
    raw = read_source(Tables(frame, things), None, ReadOptions())
    assert raw.interactions.rows() == [("u", "a", 1_000_000), ("v", "d", 5_000_000)]
    assert [str(problem).partition(" is not")[0] for problem in raw.problems] == [
        "interactions:2: no user id",
        "interactions:3: no item id",
        "interactions:4: the time 'soon'",
        "items:2: no item id",
        "items:3: the item id 'a' occurred before",
    ]
    with pytest.raises(BadRowsError, match=r"5 of 8 rows \(62\.5%\)"):
        prepare(Tables(frame, things), ALL)


def test_whole_numbers_that_became_floats_are_whole_again(tmp_path: Path) -> None:
    nan = float("nan")
    frame = pl.DataFrame({"user": [7.0, nan, 8.0, None], "item": [1.0, 2.0, 3.0, 4.0], "time": [1.5, 2.0, 3.0, 4.0]})
    frame.write_parquet(tmp_path / "log.parquet")
    for raw in (read_source(Tables(frame), None, ReadOptions()), read_source(tmp_path / "log.parquet", None, ReadOptions())):
        assert raw.interactions.rows() == [("7", "1", 1_500_000), ("8", "3", 3_000_000)]
        assert [(problem.line, problem.reason) for problem in raw.problems] == [(2, "no user id"), (4, "no user id")]
    assert events(frame.with_columns(pl.Series("user", [7.5, nan, 8.0, None]))) == [("7.5", "1", 1), ("8", "3", 3)]


def test_tables_of_other_libraries() -> None:
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    columns = {"user": [1, None, 2], "item": ["a", "b", "c"], "time": [10, 20, 30]}
    expected = [("1", "a", 10), ("2", "c", 30)]
    assert events(pl.LazyFrame(columns)) == events(arrow.table(columns)) == expected
    frame = pandas.DataFrame(columns, index=[5, 6, 7])
    assert events(frame) == expected
    frame["time"] = pandas.to_datetime(frame["time"], unit="s", utc=True)
    frame["item"] = frame["item"].astype("category")
    assert events(frame) == expected
    with pytest.raises(DataError, match=r"The interactions cannot be read as a table: .*unique"):
        events(pandas.DataFrame([["u", "i", "j", 1]], columns=["user", "item", "item", "time"]))


@pytest.mark.parametrize("values", [[[1, 2], [3]], [["a", "b"], ["c"]]], ids=["numbers", "texts"])
def test_lists_are_no_ids_but_may_be_read_entry_by_entry(values: list[list[object]]) -> None:
    frame = pl.DataFrame({"user": ["u", "v"], "item": values, "time": [1, 2]})
    raw = read_source(Tables(frame), None, ReadOptions())
    assert [str(problem) for problem in raw.problems] == ["interactions:1: the item id is a list", "interactions:2: the item id is a list"]
    assert [advice.options for advice in raw.advice] == [(("explode", "item"),)]
    (a, b), (c,) = values
    assert events(frame, explode="item") == [("u", str(a), 1), ("u", str(b), 1), ("v", str(c), 2)]


def test_what_is_no_source_is_refused() -> None:
    for given_, reason in (
        (LOG, r"Tables\(interactions, items\).*received DataFrame"),
        (Tables("log.csv"), "received str.* by its path alone"),
    ):  # type: ignore[arg-type]
        with pytest.raises(DataError, match=reason):
            prepare(given_)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is empty"):
        events(pl.DataFrame())
    with pytest.raises(DataError, match="of no file's format; received 'recbole'"):
        prepare(Tables(LOG), PrepareOptions(format="recbole"))
    for options in (ReadOptions(items=Path("x")), ReadOptions(encoding="latin-1"), ReadOptions(delimiter=";")):
        with pytest.raises(DataError, match="would be ignored: these are tables in memory"):
            prepare(Tables(LOG), PrepareOptions(read=options))


CELLS = st.one_of(st.none(), st.sampled_from(["", " ", "a", " b", "é", "7"]))
ROWS = st.lists(st.tuples(CELLS, CELLS, st.one_of(st.none(), st.integers(0, 2_000_000_000))), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_memory_parquet_and_csv_are_read_alike(
    rows: list[tuple[str | None, str | None, int | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    frame = pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}, orient="row")
    folder = tmp_path_factory.mktemp("alike")
    frame.write_csv(folder / "log.csv", quote_style="always")
    memory = read_source(Tables(frame), None, ReadOptions())
    file = read_source(folder / "log.csv", None, ReadOptions())
    sound = [
        (user.strip(), item.strip(), time)
        for user, item, time in rows
        if user and user.strip() and item and item.strip() and time is not None
    ]
    assert memory.interactions.rows() == [(user, item, time * 1_000_000) for user, item, time in sound]
    assert file.interactions.rows() == memory.interactions.rows()
    assert len(memory.problems) == len(rows) - len(sound)


def test_ids_that_are_no_text_are_told(tmp_path: Path) -> None:
    log = pl.DataFrame({"user": [b"a", b"\xff"], "sku": [1, 2], "when": [1, 2]})
    with pytest.raises(DataError, match="interactions:2: the user id is bytes that are no text"):
        prepare(Tables(log), ALL)
