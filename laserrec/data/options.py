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
FLAGS = {
    "user": "--user-column",
    "item": "--item-column",
    "time": "--time-column",
    "time_format": "--time-format",
    "file_order": "--file-order",
    "items": "--items",
    "item_id": "--item-id-column",
    "title": "--title-column",
    "attributes": "--attribute",
    "encoding": "--encoding",
    "clock": "--clock-column",
    "keep": "--keep",
    "min_rating": "--min-rating",
    "null_marks": "--null-marks",
    "explode": "--explode",
    "delimiter": "--delimiter",
    "quoting": "--quoting",
    "max_unpacked_gib": "--max-unpacked-gib",
}
"""What each is called on the command line and in messages."""


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

    def given(self, among: Collection[str] = FLAGS.keys()) -> tuple[str, ...]:
        """Return the flags of those options, all or among some, that are not as they are when nothing is said."""
        return tuple(FLAGS[option.name] for option in fields(self) if option.name in among and getattr(self, option.name) != option.default)

    def refuse_all_but(self, honoured: Collection[str], source: str) -> None:
        """Refuse options that a reader has no use for: whoever gives one expects it to matter.

        Args:
            honoured: names of the options that the reader uses.
            source: what it reads, for the message.

        Raises:
            DataError: another one was given.
        """
        unused = self.given(FLAGS.keys() - set(honoured))
        if unused:
            used = ", ".join(flag for name, flag in FLAGS.items() if name in honoured) or "none of these options"
            raise DataError(
                f"{source}: {', '.join(unused)} would be ignored; such files are read with {used}. Leave out what is ignored, or write "
                "the data as a table (.csv, .tsv, .jsonl or .parquet) and read it with --format table, which honours every option."
            )
