"""Decides which column of a table is the user, the item, the moment, the title: the one that options name, or one with a common name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from laserrec.data.options import ReadOptions
from laserrec.errors import DataError

Role = Literal["user", "item", "time", "title", "clock", "rating", "event"]

# In order of preference; compared without case, punctuation and RecBole's `:type`.
# fmt: off
_COMMON: dict[Role, tuple[str, ...]] = {
    "user": (
        "userid", "user", "uid", "customerid", "customer", "reviewerid", "reviewer", "visitorid", "visitor", "memberid", "member",
        "clientid", "client", "accountid", "account", "buyerid", "buyer", "shopperid", "shopper", "patronid", "patron", "readerid",
        "reader", "subscriberid", "studentid", "listenerid", "playerid", "username", "sessionid", "session", "usersession", "kunde",
        "kundennummer",
    ),
    "item": (
        "itemid", "item", "parentasin", "asin", "productid", "product", "sku", "articleid", "article", "movieid", "movie", "bookid",
        "book", "isbn", "trackid", "tracksid", "track", "songid", "artistid", "artistsid", "albumid", "albumsid", "gameid", "game",
        "courseid", "businessid", "venueid", "newsid", "hotelid", "recipeid", "animeid", "gtin", "ean", "iid", "productcode", "itemcode",
        "artikel", "artikelnummer",
    ),
    "time": (
        "timestamp", "time", "datetime", "when", "date", "ts", "eventtime", "eventdate", "unixreviewtime", "createdat", "created",
        "occurredat", "purchasedat", "boughtat", "purchasedate", "purchasetime", "orderdate", "orderedat", "ordertime", "reviewtime",
        "visitedat", "eventtimestamp", "reviewtimestamp", "purchasetimestamp", "clicktime", "viewtime", "watchedat", "at", "day",
        "timestampms", "tsms", "unixtime", "unixtimestamp", "epoch", "datum", "kaufdatum", "bestelldatum",
    ),
    "title": (
        "title", "name", "itemname", "itemtitle", "producttitle", "productname", "movietitle", "moviename", "booktitle", "bookname",
        "appname", "gamename", "artistname", "albumname", "trackname", "songname", "businessname", "headline", "label", "bezeichnung",
        "titel",
    ),
    "clock": ("time", "clock", "timeofday", "eventclock", "timeframe", "hour", "hourofday", "ordertime", "purchasetime", "uhrzeit", "zeit"),
    "rating": ("rating", "ratings", "stars", "score", "overall", "reviewscore", "bookrating", "userrating", "grade"),
    "event": ("eventtype", "event", "behaviortype", "behaviourtype", "behavior", "behaviour", "action", "actiontype", "eventname",
              "interactiontype", "activitytype", "type"),
}
# fmt: on
_TYPE = re.compile(r":(?:token|float|str|string|bool|int)(?:_seq)?$")
_PREFIX = re.compile(r"^.*(?:[:./|>]|__)")
_INDEX = re.compile(r"Unnamed: ?\d+(?:\.\d+)?(?:_level_\d+)?|__index_level_\d+__")


def untyped(column: str) -> str:
    """Return a column's name without RecBole's `:type`; any other colon is a part of the name."""
    return _TYPE.sub("", column).strip()


def plain_name(column: str) -> str:
    """Return a column's name without case, punctuation and RecBole's `:type`."""
    return re.sub(r"[\W_]", "", untyped(column).casefold())


def is_index(column: str) -> bool:
    """Return whether a name is one that pandas gives to an index without a name; such a column holds numbers of rows."""
    return not column.strip() or _INDEX.fullmatch(column.strip()) is not None


def candidates(role: Role, columns: Sequence[str]) -> list[str]:
    """Return the columns whose names are usual for a role, the most usual first; names behind a prefix, as in `info:title`, come last."""
    found: dict[str, list[str]] = {}
    for column in columns:
        found.setdefault(plain_name(column), []).append(column)
    for column in columns:
        short = plain_name(_PREFIX.sub("", untyped(column)))
        if short != plain_name(column):
            found.setdefault(f"…{short}", []).append(column)
    return [column for mark in ("", "…") for name in _COMMON[role] for column in found.get(mark + name, ())]


def guess(role: Role, columns: Sequence[str]) -> str | None:
    """Return the column whose name is most usual for a role, or None."""
    return next(iter(candidates(role, columns)), None)


def named(column: str, columns: Sequence[str], option: str, table: str) -> str:
    """Return a column that the user named with an option, with or without RecBole's `:type`.

    Raises:
        DataError: the table has no such column.
    """
    for candidate in columns:
        if column in (candidate, untyped(candidate)):
            return candidate
    raise DataError(f"{table} has no column {column!r} (from {option}); it has {listed(columns)}.", parameters=[option])


@dataclass(frozen=True)
class LogColumns:
    """Which columns of a log are read, and as what.

    Attributes:
        user: of the user's id.
        item: of the item's id.
        moments: those that may say when, the most usual first; none where the order of the rows does.
        clocks: those that may say the time of day.
        kept: the values of each column that a row is kept with.
        rating: of the rating; None where rows of any rating are kept.
        times: columns of moments and of times of day, each once.
        conditions: columns that decide whether a row is kept.
    """

    user: str
    item: str
    moments: tuple[str, ...]
    clocks: tuple[str, ...]
    kept: dict[str, tuple[str, ...]]
    rating: str | None
    times: tuple[str, ...]
    conditions: tuple[str, ...]

    @classmethod
    def of(cls, table: str, columns: Sequence[str], options: ReadOptions) -> LogColumns:
        """Find the columns that options name, and the others by common names.

        Args:
            table: what messages call it.
            columns: its columns.
            options: those about columns, moments and the rows to keep.

        Raises:
            DataError: a column cannot be found, or is named for two things.
        """
        user = _of_role("user", options.user, columns, table)
        item = _of_role("item", options.item, columns, table)
        moments, clocks = _times(table, columns, options)
        if len({user, item, *moments}) < 2 + len(moments):
            when = moments[0] if moments else None
            raise DataError(f"{table}: user, item and time must be three columns; received {user!r}, {item!r} and {when!r}.")
        kept: dict[str, tuple[str, ...]] = {}
        for condition in options.keep:
            name, sign, values = condition.partition("=")
            if not sign or not values.strip():
                raise DataError(f"Received {condition!r}; expected is COLUMN=VALUE or COLUMN=VALUE,VALUE.", parameters=["keep"])
            column = named(name.strip(), columns, "keep", table)
            kept[column] = (*kept.get(column, ()), *(value.strip() for value in values.split(",")))
        rating = None if options.min_rating is None else guess("rating", columns)
        if options.min_rating is not None and rating is None:
            raise DataError(
                f"{table}: cannot tell which column is the rating; it has {listed(columns)}. "
                "Leave the lowest rating out, or name the column 'rating'.",
                parameters=["min_rating"],
            )
        times = tuple(dict.fromkeys((*moments, *clocks)))
        return cls(user, item, moments, clocks, kept, rating, times, (*kept, *([rating] if rating else [])))


def _of_role(
    role: Literal["user", "item", "time"],
    chosen: str | None,
    columns: Sequence[str],
    table: str,
    hint: str = "",
    others: Sequence[str] = (),
) -> str:
    column = named(chosen, columns, role, table) if chosen is not None else guess(role, columns)
    if column is None:
        raise DataError(
            f"{table}: cannot tell which column is the {role}; it has {listed(columns)}. Name it{hint}.", parameters=[role, *others]
        )
    return column


def _times(table: str, columns: Sequence[str], options: ReadOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns of moments and those of times of day."""
    if options.file_order:
        options.refuse(("time", "time_format", "clock"), "with file_order there are no moments. Give one of the two.")
        return (), ()
    if options.clock is not None:
        clock = named(options.clock, columns, "clock", table)
        return (_of_role("time", options.time, [name for name in columns if name != clock], table),), (clock,)
    if options.time is not None:
        return (named(options.time, columns, "time", table),), ()
    _of_role("time", None, columns, table, ", or say that each user's rows are in order already", ["file_order"])
    return tuple(candidates("time", columns)), tuple(candidates("clock", columns))


def guess_item_id(columns: Sequence[str]) -> str | None:
    """Return the column of the ids in a table of items: one that is usual for items, else one that is called `id`."""
    return guess("item", columns) or next((name for name in columns if plain_name(name) == "id"), None)


def item_columns(table: str, columns: Sequence[str], item: str, options: ReadOptions) -> tuple[str, str | None, list[str]]:
    """Return the columns of id, title and further attributes; an index is none of them unless it is named.

    Args:
        table: what messages call it.
        columns: its columns.
        item: the log's column of items, which is preferred.
        options: those about columns of items.

    Raises:
        DataError: a column cannot be found.
    """
    names = [name for name in columns if not is_index(name)]
    if options.item_id is not None:
        key: str | None = named(options.item_id, columns, "item_id", table)
    else:
        key = item if item in names else guess_item_id(names)
    if key is None:
        raise DataError(f"{table}: cannot tell which column is the item's id; it has {listed(columns)}. Name it.", parameters=["item_id"])
    left = [name for name in names if name != key]
    title = named(options.title, columns, "title", table) if options.title is not None else guess("title", left)
    chosen = left if options.attributes is None else [named(name, columns, "attributes", table) for name in options.attributes]
    return key, title, [name for name in dict.fromkeys(chosen) if name not in (key, title)]


def attribute_names(columns: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Return the catalogue's name of each attribute's column; names that differ stay different.

    Args:
        columns: of the table.
        taken: names that mean something else in a catalogue; an attribute of that name gets an underscore.
    """
    short = [untyped(column) for column in columns]
    found: dict[str, str] = {}
    used = set(taken)
    for column, name in zip(columns, short, strict=True):
        wanted = name if name and short.count(name) == 1 else column
        while wanted in used:
            wanted += "_"
        found[column] = wanted
        used.add(wanted)
    return found


def listed(columns: Sequence[str]) -> str:
    """Return columns as a message lists them."""
    shown = ", ".join(repr(column) for column in columns[:30])
    return (shown + (", …" if len(columns) > 30 else "")) or "no columns"
