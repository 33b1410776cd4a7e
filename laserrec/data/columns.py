"""Which column of a table is the user, the item, the moment, the title: as told, or by common names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from laserrec.data.options import FLAGS
from laserrec.errors import DataError

Role = Literal["user", "item", "time", "title"]

# In order of preference; compared without case, punctuation and RecBole's `:type`.
# fmt: off
_COMMON: dict[Role, tuple[str, ...]] = {
    "user": (
        "userid", "user", "uid", "customerid", "customer", "reviewerid", "reviewer", "visitorid", "visitor", "memberid", "member",
        "clientid", "client", "accountid", "account", "buyerid", "buyer", "shopperid", "shopper", "patronid", "patron", "readerid",
        "reader", "subscriberid", "username", "sessionid", "session", "kunde", "kundennummer",
    ),
    "item": (
        "itemid", "item", "parentasin", "asin", "productid", "product", "sku", "articleid", "article", "movieid", "movie", "bookid",
        "book", "isbn", "trackid", "track", "songid", "gameid", "game", "courseid", "businessid", "gtin", "ean", "iid",
        "productcode", "itemcode", "artikel",
    ),
    "time": (
        "timestamp", "time", "datetime", "when", "date", "ts", "eventtime", "eventdate", "unixreviewtime", "createdat", "created",
        "occurredat", "purchasedat", "boughtat", "purchasedate", "purchasetime", "orderdate", "orderedat", "ordertime", "reviewtime",
        "visitedat", "at", "day",
    ),
    "title": (
        "title", "name", "itemname", "itemtitle", "producttitle", "productname", "movietitle", "booktitle", "label", "bezeichnung",
        "titel",
    ),
}
# fmt: on


def plain_name(column: str) -> str:
    """Return a column's name without case, punctuation and RecBole's `:type`."""
    return re.sub(r"[\W_]", "", column.split(":")[0].casefold())


def guess(role: Role, columns: Sequence[str]) -> str | None:
    """Return the column whose name is most usual for a role, or None."""
    named = {plain_name(column): column for column in reversed(columns)}
    return next((named[name] for name in _COMMON[role] if name in named), None)


def told(column: str, columns: Sequence[str], option: str, file: str) -> str:
    """Return a column that the user named, with or without RecBole's `:type`.

    Raises:
        DataError: the table has no such column.
    """
    for candidate in columns:
        if column in (candidate, candidate.split(":")[0]):
            return candidate
    raise DataError(f"{file} has no column {column!r} (from {option}); it has {_listed(columns)}.")


def resolve(role: Role, chosen: str | None, columns: Sequence[str], file: str, hint: str = "") -> str:
    """Return the column of a role: the chosen one, else the one with a common name.

    Raises:
        DataError: neither is there.
    """
    option = FLAGS[role]
    column = told(chosen, columns, option, file) if chosen is not None else guess(role, columns)
    if column is None:
        raise DataError(f"{file}: cannot tell which column is the {role}; it has {_listed(columns)}. Name it with {option} COLUMN{hint}.")
    return column


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(repr(column) for column in columns[:30])
    return (shown + (", …" if len(columns) > 30 else "")) or "no columns"
