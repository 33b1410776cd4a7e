"""MovieLens: ml-100k (`u.data`, `u.item`), ml-1m and ml-10m (`.dat`), and the CSV releases (`ratings.csv`, `movies.csv`)."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import polars as pl

from laserrec.data.columns import LogColumns
from laserrec.data.logs import read_log
from laserrec.data.options import ReadOptions
from laserrec.data.raw import Items, RawTables
from laserrec.data.reading.files import TableFile
from laserrec.data.reading.plain import PlainTable, plain_rows
from laserrec.data.reading.rows import wrong_width
from laserrec.data.sources.tabular import read_tabular
from laserrec.data.tables import ITEM, TITLE, BadRow, SourceFile, empty_items, one_row_each, repeated, tidy_items
from laserrec.errors import DataError

# fmt: off
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_RATINGS = ("user id", "item id", "rating", "timestamp")
_HONOURED = ("keep", "min_rating", "null_marks")
_NO_MOVIES = ("no file of films: items have no text",)
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")


def read_movielens(source: Path, options: ReadOptions) -> RawTables:
    """Read a folder as GroupLens releases it; every rating is an interaction, whatever its value.

    Args:
        source: holds the files under their own names, or is the one of ratings.
        options: `keep`, `min_rating` and `null_marks`; `encoding` only of the CSV releases: the older ones have theirs.

    Raises:
        DataError: files are missing or cannot be read; another option was given.
    """
    folder = source if source.is_dir() else source.parent
    names = [name for name in ("ratings.csv", "u.data", "ratings.dat") if (folder / name).is_file() and source in (folder, folder / name)]
    if not names:
        raise DataError(f"{source} is, or holds, none of MovieLens' u.data, ratings.dat and ratings.csv.")
    if names[0] == "ratings.csv":
        options.refuse_all_but(("encoding", *_HONOURED), "MovieLens' CSV files")
        return _read_csv(folder, options)
    options.refuse_all_but(_HONOURED, f"MovieLens' {names[0]}")
    if names[0] == "u.data":
        ratings, movies, separators = folder / "u.data", folder / "u.item", ("\t", "|")
    else:
        ratings, movies, separators = folder / "ratings.dat", folder / "movies.dat", ("::", "::")
    table = PlainTable(ratings.name, _RATINGS, plain_rows(ratings, separators[0]))
    log = read_log(table, LogColumns.of(table.name, table.columns, options), options)
    items = _movies(movies, separators[1]) if movies.is_file() else Items(empty_items(), notes=_NO_MOVIES)
    name = "ml-100k" if ratings.name == "u.data" else folder.name or "movielens"
    return RawTables.of(name, "movielens", log, items, (SourceFile.of(file) for file in (ratings, movies) if file.is_file()))


def _read_csv(folder: Path, options: ReadOptions) -> RawTables:
    movies = folder / "movies.csv"
    named = dataclasses.replace(options, user="userId", item="movieId", time="timestamp")
    ratings = folder / "ratings.csv"
    raw = read_tabular(ratings, [TableFile(ratings, "csv")], dataclasses.replace(named, items=movies if movies.is_file() else None))
    items = raw.items.to_dicts()
    for item in items:
        item.update(_film(item[TITLE], (item.get("genres") or "").replace("(no genres listed)", "").split("|")))
    columns = dict.fromkeys((ITEM, TITLE, "year", "genres"), pl.String)
    films = one_row_each(pl.DataFrame(items, schema=columns))
    return dataclasses.replace(raw, name=folder.name or "movielens", format="movielens", items=films)


def _encoding(file: Path) -> str:
    """Return the encoding of films: UTF-8 since the release of 10 M ratings, Latin-1 before, which is rarely UTF-8 by chance."""
    try:
        file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _movies(file: Path, separator: str) -> Items:
    """Read `u.item`, whose last fields are one flag a genre, or `movies.dat`, whose third field names them."""
    width = 24 if file.name == "u.item" else 3
    found: list[dict[str, str | None]] = []
    problems: list[BadRow] = []
    for line, row in plain_rows(file, separator, _encoding(file)):
        if len(row) != width or not row[0].strip():
            problems.append(BadRow(file.name, line, f"no id, or {wrong_width(len(row), width)}"))
        elif width == 3:
            found.append({ITEM: row[0].strip(), **_film(row[1], row[2].split("|"))})
        else:
            genres = [name for name, flag in zip(_GENRES, row[5:], strict=True) if flag.strip() == "1" and name != "unknown"]
            found.append({ITEM: row[0].strip(), **_film(row[1] if row[1] != "unknown" else None, genres)})
    items = tidy_items(pl.DataFrame(found, schema=dict.fromkeys((ITEM, TITLE, "year", "genres"), pl.String)))
    return Items(items, problems, len(found) + len(problems), notes=repeated(file.name, len(found), items))


def _film(title: str | None, genres: list[str]) -> dict[str, str | None]:
    """Take the year out of a title's brackets, and the article from its end: "Matrix, The (1999)" is "The Matrix" of 1999."""
    year = _YEAR.search(title or "")
    name = _YEAR.sub("", title or "").strip()
    front = re.fullmatch(r"(?P<name>.+), (?P<article>The|A|An)", name)
    name = f"{front['article']} {front['name']}" if front else name
    known = ", ".join(genre.strip() for genre in genres if genre.strip())
    return {TITLE: name or None, "year": year[1] if year else None, "genres": known or None}
