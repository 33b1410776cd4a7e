"""Which column of a table is the user, the item, the moment, the title: as told, or by common names; and what the others seem to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from laserrec.data.options import FLAGS
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
        "artikel",
    ),
    "time": (
        "timestamp", "time", "datetime", "when", "date", "ts", "eventtime", "eventdate", "unixreviewtime", "createdat", "created",
        "occurredat", "purchasedat", "boughtat", "purchasedate", "purchasetime", "orderdate", "orderedat", "ordertime", "reviewtime",
        "visitedat", "eventtimestamp", "reviewtimestamp", "purchasetimestamp", "clicktime", "viewtime", "watchedat", "at", "day",
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
    """Tell the names that pandas gives to an index without one: what stands there are numbers of rows."""
    return not column.strip() or _INDEX.fullmatch(column.strip()) is not None


def candidates(role: Role, columns: Sequence[str]) -> list[str]:
    """Return the columns whose names are usual for a role, the most usual first; names behind a prefix, as in `info:title`, come last."""
    named: dict[str, list[str]] = {}
    for column in columns:
        named.setdefault(plain_name(column), []).append(column)
    for column in columns:
        short = plain_name(_PREFIX.sub("", untyped(column)))
        if short != plain_name(column):
            named.setdefault(f"…{short}", []).append(column)
    return [column for mark in ("", "…") for name in _COMMON[role] for column in named.get(mark + name, ())]


def guess(role: Role, columns: Sequence[str]) -> str | None:
    """Return the column whose name is most usual for a role, or None."""
    return next(iter(candidates(role, columns)), None)


def told(column: str, columns: Sequence[str], option: str, file: str) -> str:
    """Return a column that the user named, with or without RecBole's `:type`.

    Raises:
        DataError: the table has no such column.
    """
    for candidate in columns:
        if column in (candidate, untyped(candidate)):
            return candidate
    raise DataError(f"{file} has no column {column!r} (from {option}); it has {listed(columns)}.")


def resolve(role: Literal["user", "item", "time"], chosen: str | None, columns: Sequence[str], file: str, hint: str = "") -> str:
    """Return the column of a role: the chosen one, else the one with a common name.

    Raises:
        DataError: neither is there.
    """
    option = FLAGS[role]
    column = told(chosen, columns, option, file) if chosen is not None else guess(role, columns)
    if column is None:
        raise DataError(f"{file}: cannot tell which column is the {role}; it has {listed(columns)}. Name it with {option} COLUMN{hint}.")
    return column


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
