from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.reading.files import table_files
from laserrec.data.sources import infer_format, read_source
from laserrec.data.sources.recbole import divide_texts
from laserrec.errors import DataError


def read(folder: Path) -> RawTables:
    return read_source(folder, None, ReadOptions())


def sequence(raw: RawTables, user: str) -> list[tuple[str, str]]:
    return raw.interactions.filter(pl.col("user_id") == user).sort("timestamp").select("item_id", "split").rows()


def write_unisrec(folder: Path, longest: int) -> list[str]:
    """Write one user with seven events, histories cut to `longest`, and one with three."""
    items = [str(number) for number in range(7)]
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"

    def row(user: int, history: list[str], item: str) -> str:
        return f"{user}\t{' '.join(history[-longest:])}\t{item}\n"

    train = [row(0, items[:end], items[end]) for end in range(4, 0, -1)]
    (folder / "Toy.train.inter").write_text(header + "".join(train))
    (folder / "Toy.valid.inter").write_text(header + row(0, items[:5], items[5]) + row(1, ["6"], "2"))
    (folder / "Toy.test.inter").write_text(header + row(0, items[:6], items[6]) + row(1, ["6", "2"], "6"))
    (folder / "Toy.item2index").write_text("".join(f"I{number}\t{number}\n" for number in range(7)))
    (folder / "Toy.user2index").write_text("ann\t0\nbob\t1\n")
    (folder / "Toy.text").write_text(
        "item_id:token\ttext:token_seq\nI0\tLamp no. 3. Home Decor Lights. Acme. \nI1\tBed. Home Decor. A. B. \nI2\tRug. . Acme. \n"
    )
    return [f"I{number}" for number in range(7)]


@pytest.mark.parametrize("longest", [50, 3, 2])
def test_unisrec_rows_are_stitched_even_where_histories_were_cut(tmp_path: Path, longest: int) -> None:
    items = write_unisrec(tmp_path, longest)
    raw = read(tmp_path)
    assert raw.problems == ()
    assert sequence(raw, "ann") == list(zip(items, ["train"] * 5 + ["valid", "test"], strict=True))
    assert sequence(raw, "bob") == [("I6", "train"), ("I2", "valid"), ("I6", "test")]
    assert raw.own_split
    assert raw.items.rows() == [
        ("I0", "Lamp no. 3", "Acme", "Home Decor Lights"),
        ("I1", "Bed", "A. B", "Home Decor"),
        ("I2", "Rug", "Acme", None),
    ]


def test_unisrec_rows_that_contradict_one_another_are_reported(tmp_path: Path) -> None:
    write_unisrec(tmp_path, 50)
    with (tmp_path / "Toy.valid.inter").open("a") as file:
        file.write("1\t3 3\t4\n")
        file.write("1\t3\n")
    raw = read(tmp_path)
    assert [str(problem) for problem in raw.problems] == [
        "Toy.valid.inter:5: 2 columns instead of 3",
        "Toy.valid.inter:4: its history contradicts the user's other rows",
    ]


def test_an_index_that_lacks_an_item_is_refused(tmp_path: Path) -> None:
    write_unisrec(tmp_path, 50)
    (tmp_path / "Toy.item2index").write_text("I0\t0\n")
    with pytest.raises(DataError, match=r"Toy.item2index has no id for .* events"):
        read(tmp_path)


def test_texts_that_cannot_be_divided_stay_titles() -> None:
    assert divide_texts(["Just words", "Also. Two"]) == [("Just words", None, None), ("Also. Two", None, None)]


def test_one_atomic_file(tmp_path: Path) -> None:
    (tmp_path / "toy.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t5\t1500000000\nu\tj\t3\tnever\n"
    )
    (tmp_path / "toy.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\ni\tHeat\t1995\tCrime Drama\n"
    )
    raw = read(tmp_path)
    assert raw.interactions.rows() == [("u", "i", 1_500_000_000_000_000)]
    assert [problem.line for problem in raw.problems] == [3]
    assert raw.rows == 3  # two events, one item
    assert raw.items.to_dicts() == [{"item_id": "i", "title": "Heat", "release_year": "1995", "class": "Crime Drama"}]


def test_the_inter_file_that_was_named_is_read(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\n"
    (tmp_path / "a.inter").write_text(header + "u\tx\n")
    (tmp_path / "a.item").write_text("item_id:token\ttitle:token_seq\nx\tOne\ny\n")
    (tmp_path / "b.inter").write_text(header + "v\ty\n")
    for split in ("train", "valid", "test"):
        (tmp_path / f"c.{split}.inter").write_text(header + f"w\t{split}\n")
    raw = read(tmp_path / "a.inter")
    assert (raw.name, raw.interactions.rows(), raw.items.rows()) == ("a", [("u", "x", 1_000_000)], [("x", "One")])
    assert [str(problem) for problem in raw.problems] == ["a.item:3: 1 column instead of 2"]
    assert [file.name for file in raw.sources] == ["a.inter", "a.item"]
    raw = read(tmp_path / "b.inter")
    assert (raw.name, raw.interactions.rows(), raw.items.height) == ("b", [("v", "y", 1_000_000)], 0)
    raw = read(tmp_path / "c.valid.inter")
    assert (raw.name, sequence(raw, "w")) == ("c", [("train", "train"), ("valid", "valid"), ("test", "test")])
    (tmp_path / "c.test.inter").unlink()
    assert read(tmp_path / "c.train.inter").interactions.rows() == [("w", "train", 1_000_000)]
    with pytest.raises(DataError, match=r"Give the .inter file itself"):
        read(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_films_of_older_and_newer_releases(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "ratings.dat").write_text("1::122::5::838985046\n")
    (tmp_path / "movies.dat").write_bytes("122::Amélie (2001)::Comedy|Romance\n".encode(encoding))
    assert read(tmp_path).items["title"].to_list() == ["Amélie"]


def test_a_dataset_may_be_called_like_a_part(tmp_path: Path) -> None:
    (tmp_path / "train.inter").write_text("user_id:token\titem_id:token\nu\tx\n")
    (tmp_path / "train.item").write_text("item_id:token\ttitle:token_seq\nx\tOne\n")
    raw = read(tmp_path)
    assert (raw.name, raw.items.rows()) == ("train", [("x", "One")])


def test_one_file_of_histories_is_not_stitched(tmp_path: Path) -> None:
    (tmp_path / "a.inter").write_text("user_id:token\titem_id_list:token_seq\titem_id:token\nu\tx\ty\n")
    with pytest.raises(DataError, match="holds histories"):
        read(tmp_path)


def test_items_beside_atomic_files_may_be_any_table_or_another_item_file(tmp_path: Path) -> None:
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\nu\tx\n")
    (tmp_path / "a.item").write_text("item_id:token\ttitle:token_seq\nx\tOne\n")
    (tmp_path / "my.csv").write_text("code;words;colour\nx;Two;red\n;Three;blue\n")
    (tmp_path / "other.item").write_text("item_id:token\tname:token_seq\nx\tFour\n")
    named = ReadOptions(items=tmp_path / "my.csv", item_id="code", title="words", attributes=(), delimiter=";")
    raw = read_source(tmp_path, None, named)
    assert (raw.items.rows(), raw.rows) == ([("x", "Two")], 3)
    assert [str(problem) for problem in raw.problems] == ["my.csv:3: no item id"]
    assert raw.columns == {
        **{"user": "user_id", "item": "item_id", "time": "order of the file"},
        **{"item id": "code", "title": "words", "attributes": "none"},
    }
    assert read_source(tmp_path, None, ReadOptions(items=tmp_path / "other.item")).items.rows() == [("x", "Four")]
    with pytest.raises(DataError, match="title would be ignored"):
        read_source(tmp_path, None, ReadOptions(items=tmp_path / "other.item", title="name"))


VALUES = {"keep", "min_rating", "null_marks"}
EVERY = {
    **{"clock": "nope", "keep": ("a=b",), "min_rating": 4.0, "null_marks": (), "explode": "item"},
    **{"user": "nope", "item": "nope", "time": "nope", "time_format": "%Y", "file_order": True, "items": Path(__file__)},
    **{"item_id": "nope", "title": "nope", "attributes": ("nope",), "encoding": "latin-1", "delimiter": ";"},
}
HONOURED = {
    "u.data": VALUES,
    "ratings.dat": VALUES,
    "ratings.csv": {"encoding"} | VALUES,
    "toy.inter": {"items", "encoding", "user", "item", "time", "time_format", "file_order", "clock"} | VALUES,
    "train.json": {"encoding"},
    "reviews.json": {"items", "encoding"} | VALUES,
}


@pytest.mark.parametrize("name", HONOURED)
@pytest.mark.parametrize("option", EVERY)
def test_an_option_that_a_reader_has_no_use_for_is_refused(tmp_path: Path, name: str, option: str) -> None:
    form = {"toy.inter": "recbole", "train.json": "recformer", "reviews.json": "amazon"}.get(name, "movielens")
    (tmp_path / name).write_text("")
    try:
        read_source(tmp_path, form, ReadOptions(**{option: EVERY[option]}))  # type: ignore[arg-type]
    except DataError as error:
        refused = error.parameters == (option,) and "would be ignored" in str(error) and "format 'table'" in str(error)
    else:
        refused = False
    assert refused == (option not in HONOURED[name])


def test_the_movielens_file_that_was_named_is_read(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n")
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n")
    assert read(tmp_path / "u.data").interactions.rows() == [("196", "242", 881_250_949_000_000)]
    with pytest.raises(DataError, match=r"u1.base is, or holds, none of MovieLens'"):
        read_source((tmp_path / "u.data").rename(tmp_path / "u1.base"), "movielens", ReadOptions())


def test_a_benchmark_split_with_one_event_a_row(tmp_path: Path) -> None:
    for split, item in (("train", "a"), ("valid", "b"), ("test", "c")):
        (tmp_path / f"toy.{split}.inter").write_text(f"user_id:token\titem_id:token\nu\t{item}\n")
    assert sequence(read(tmp_path), "u") == [("a", "train"), ("b", "valid"), ("c", "test")]


def test_ml_100k(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n196\t1\t4\t881250950\n1\t2\n")
    flags = "|".join("1" if place in (5, 14) else "0" for place in range(19))
    none = "|".join("0" * 19)
    films = f"242|Misérables, Les (1995)|01-Jan-1995||http://x|{flags}\n1|Net, The (1995)|||x|{none}\n"
    (tmp_path / "u.item").write_bytes(films.encode("latin-1"))
    raw = read(tmp_path)
    assert raw.interactions.height == 2
    assert [str(problem) for problem in raw.problems] == ["u.data:3: 2 columns instead of 4"]
    assert raw.items.rows() == [("242", "Misérables, Les", "1995", "Comedy, Romance"), ("1", "The Net", "1995", None)]


def test_ml_1m(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n")
    (tmp_path / "movies.dat").write_text("1193::One Flew Over the Cuckoo's Nest (1975)::Drama|War\n")
    raw = read(tmp_path)
    assert raw.interactions.rows() == [("1", "1193", 978_300_760_000_000)]
    assert raw.items.rows() == [("1193", "One Flew Over the Cuckoo's Nest", "1975", "Drama, War")]


def test_ml_latest(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n31,"American President, The (1995)",Comedy|Drama\n32,Odd,(no genres listed)\n'
    )
    (tmp_path / "links.csv").write_text("movieId,imdbId\n31,1\n")
    raw = read(tmp_path)
    assert (raw.format, raw.interactions.rows()) == ("movielens", [("1", "31", 1_260_759_144_000_000)])
    assert raw.items.rows() == [("31", "The American President", "1995", "Comedy, Drama"), ("32", "Odd", None, None)]


def test_amazon_2014(tmp_path: Path) -> None:
    (tmp_path / "reviews_Toys_5.json.gz").write_bytes(
        gzip.compress(b'{"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1400000000}\n')
    )
    bear = "{'asin': 'B1', 'title': 'Bear &amp; Co', 'brand': 'Steiff', 'categories': [['Toys', 'Plush'], ['Gifts']]}"
    meta = bear + "\n{'asin': __import__('os')}\n"
    (tmp_path / "meta_Toys.json.gz").write_bytes(gzip.compress(meta.encode()))
    raw = read(tmp_path)
    assert (raw.name, raw.format) == ("toys_5", "amazon")
    assert raw.interactions.rows() == [("A1", "B1", 1_400_000_000_000_000)]
    assert raw.items.rows() == [("B1", "Bear & Co", "Steiff", "Toys, Plush")]
    assert [(problem.line, problem.reason[:12]) for problem in raw.problems] == [(2, "neither JSON")]


def test_amazon_2018(tmp_path: Path) -> None:
    (tmp_path / "Pet.json").write_text(
        '{"reviewerID": "A1", "asin": "B1", "unixReviewTime": 1400000000, "reviewTime": "05 13, 2014"}\n{"asin": "B1"}\n'
    )
    rows = [
        {"asin": "B1", "title": "Bowl", "brand": "Acme", "category": ["Pet", "Dogs"]},
        {"asin": "B1", "title": "again"},
        {"asin": "B2", "title": "var aPageStart = (new Date()).getTime();"},
    ]
    (tmp_path / "meta_Pet.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = read(tmp_path)
    assert raw.interactions.rows() == [("A1", "B1", 1_400_000_000_000_000)]
    assert [str(problem) for problem in raw.problems] == ["Pet.json:2: no user id"]
    assert raw.items.rows() == [("B1", "Bowl", "Acme", "Pet, Dogs"), ("B2", None, None, None)]


def test_amazon_2023(tmp_path: Path) -> None:
    (tmp_path / "Games.jsonl").write_text('{"user_id": "A", "asin": "B9", "parent_asin": "B1", "timestamp": 1588687728923}\n')
    row = {"parent_asin": "B1", "title": "Chess", "store": "Shop", "main_category": "Games", "categories": [], "details": {"Brand": "Acme"}}
    (tmp_path / "meta_Games.jsonl").write_text(json.dumps(row) + "\n")
    raw = read(tmp_path)
    assert raw.interactions.rows() == [("A", "B1", 1_588_687_728_923_000)]
    assert raw.items.rows() == [("B1", "Chess", "Acme", "Games")]


def test_recformer(tmp_path: Path) -> None:
    files = {
        "train": {"0": [0, 1], "1": [2]},
        "val": {"0": [2], "1": [0]},
        "test": {"0": [1], "1": [9]},
        "meta_data": {"B0": {"title": "Lamp", "brand": "Acme", "category": "Home"}, "B1": {"title": "Bed"}},
        "umap": {"ann": 0, "bob": 1},
        "smap": {"B0": 0, "B1": 1, "B2": 2},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    raw = read(tmp_path)
    assert sequence(raw, "ann") == [("B0", "train"), ("B1", "train"), ("B2", "valid"), ("B1", "test")]
    assert sequence(raw, "bob") == [("B2", "train"), ("B0", "valid")]
    assert [(problem.file, problem.line) for problem in raw.problems] == [("test.json", 2)]
    assert raw.items.rows() == [("B0", "Lamp", "Acme", "Home"), ("B1", "Bed", None, None)]


def test_formats_are_told_from_files(tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    for name, form in (("scientific", "recbole"), ("office", "table")):
        folder = real_data(name)
        assert infer_format(folder, table_files(folder), ReadOptions()) == form
    (tmp_path / "log.xlsx").touch()
    with pytest.raises(DataError, match="formats are table, movielens"):
        read_source(tmp_path / "log.xlsx", None, ReadOptions())
    with pytest.raises(DataError, match="does not exist"):
        read_source(tmp_path / "absent", None, ReadOptions())


def test_entries_and_rows_without_an_item_are_counted(tmp_path: Path) -> None:
    for name, items in (("train", [1]), ("val", [2]), ("test", [3])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"0": items}))
    (tmp_path / "meta_data.json").write_text(json.dumps({"1": {"title": "One"}, "2": "Two", "3": ["Three"]}))
    raw = read_source(tmp_path, "recformer", ReadOptions())
    assert raw.items.rows() == [("1", "One")]
    assert raw.notes == ("meta_data.json: 2 entries that are no objects were left out",)
    folder = tmp_path / "unisrec"
    folder.mkdir()
    write_unisrec(folder, 50)
    with (folder / "Toy.text").open("a") as file:
        file.write(" \tNo id. Home Decor. Acme. \n")
    raw = read(folder)
    assert [str(bad) for bad in raw.problems] == ["Toy.text:5: no item id"]
    assert "" not in raw.items["item_id"].to_list()
