"""What a user may say about how a source is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from laserrec.data.values import NULL_MARKS
from laserrec.errors import DataError

Explode = Literal["item"]
Quoting = Literal["auto", "doubled", "backslash", "none"]
"""What quotes in CSV and TSV files mean. `doubled`: RFC 4180, a quote inside a quoted field is written twice. `backslash`: it is written
as Spark does, after a backslash. `none`: quotes are characters like others. `auto`: `doubled` where the file keeps to it, else the reading
that leaves the fewest bad rows."""


@dataclass(frozen=True)
class ReadOptions:
    """Everything is optional: what is unset is found out from the files, and shown.

    Attributes:
        user: column of the user's id.
        item: column of the item's id, in the interactions.
        time: column of the moment.
        time_format: strptime format of the moments, for dates that are not ISO 8601.
        file_order: the source has no moments; a user's events are in the order of the file.
        items: file of item texts.
        item_id: column of the item's id, in the item file.
        title: column of the title.
        attributes: further columns of text; all of them when unset.
        encoding: of text files.
        delimiter: of CSV files.
        quoting: what quotes in CSV and TSV files mean; see `Quoting`.
        clock: column of the time of day, read together with a column of days.
        keep: which events to keep, each `COLUMN=VALUE,VALUE…`; the others are left out and counted.
        min_rating: lowest rating of an event that is kept.
        null_marks: texts that stand for a missing value; none with ().
        explode: read a list of items as one event an entry; otherwise a list is a bad row.
        max_unpacked_gib: how many GiB a packed file may unpack to; 100 times its size, at least 0.25, when unset.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    time_format: str | None = None
    file_order: bool = False
    items: Path | None = None
    item_id: str | None = None
    title: str | None = None
    attributes: tuple[str, ...] | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: Quoting = "auto"
    max_unpacked_gib: float | None = None
    clock: str | None = None
    keep: tuple[str, ...] = ()
    min_rating: float | None = None
    null_marks: tuple[str, ...] = NULL_MARKS
    explode: Explode | None = None

    def refuse(self, among: Collection[str], why: str) -> None:
        """Refuse options that have no effect: whoever gives one expects it to matter.

        Args:
            among: names of the options that have none.
            why: the reason, and what to do.

        Raises:
            DataError: one of them is not as it is when nothing is said.
        """
        given = [option.name for option in fields(self) if option.name in among and getattr(self, option.name) != option.default]
        if given:
            raise DataError(f"{', '.join(given)} would be ignored: {why}", parameters=given)

    def refuse_all_but(self, honoured: Collection[str], source: str) -> None:
        """Refuse options that a reader has no use for.

        Args:
            honoured: names of the options that the reader uses.
            source: what it reads, for the message.

        Raises:
            DataError: another one was given.
        """
        names = [option.name for option in fields(self)]
        used = ", ".join(name for name in names if name in honoured) or "none of these options"
        self.refuse(
            set(names) - set(honoured),
            f"{source} are read with {used}. Leave it out, or write the data as a table (.csv, .tsv, .jsonl or .parquet), whose format "
            "'table' honours every option.",
        )
