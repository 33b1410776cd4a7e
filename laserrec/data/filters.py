"""What is taken out of a log before it is split: duplicates, repeats, and users and items with too few events."""

from __future__ import annotations

import polars as pl

from laserrec.data.tables import ITEM, PART, TIME, USER


def drop_duplicates(events: pl.DataFrame) -> pl.DataFrame:
    """Keep one of the rows that agree in user, item and moment."""
    return events.unique([USER, ITEM, TIME], keep="first", maintain_order=True)


def drop_repeats(events: pl.DataFrame) -> pl.DataFrame:
    """Keep a user's first event with each item; rows must be in each user's order."""
    return events.unique([USER, ITEM], keep="first", maintain_order=True)


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Sort by user, part, moment and, where moments tie, by item id, which unlike the order of a file is the same for everyone."""
    # Ids as their ranks: sorting millions of texts by several columns takes many times as long.
    user, item = (pl.col(name).cast(pl.Enum(events[name].unique().sort())) for name in (USER, ITEM))
    return events.sort([user, *([PART] if PART in events.columns else []), TIME, item], maintain_order=True)


def k_core(events: pl.DataFrame, min_user: int, min_item: int) -> pl.DataFrame:
    """Drop users and items with too few events, again and again until none is left.

    Args:
        events: interactions.
        min_user: fewest events of a user.
        min_item: fewest events of an item.

    Returns:
        The largest set of rows in which every user has `min_user` events and every item `min_item`.
    """
    while True:
        before = events.height
        events = events.filter((pl.len().over(USER) >= min_user) & (pl.len().over(ITEM) >= min_item))
        if events.height == before:
            return events
