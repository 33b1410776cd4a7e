"""What a reader hands over, before any filtering or splitting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from laserrec.data.advice import Advice
from laserrec.data.events import Events
from laserrec.data.logs import Log
from laserrec.data.tables import BadRow, SourceFile


@dataclass(frozen=True)
class Items:
    """Items of a source, and what is to be said of how they were read.

    Attributes:
        frame: `item_id`, `title` and further attributes.
        problems: rows that could not be used.
        rows: rows read.
        columns: which column was read as what.
        notes: what a user should know.
        ignored: columns of the table that were not read.
    """

    frame: pl.DataFrame
    problems: Sequence[BadRow] = ()
    rows: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RawTables:
    """Interactions and items as a source holds them.

    Attributes:
        name: suggested name of the dataset.
        format: name of the reader.
        events: interactions in the order of the source, times in microseconds (a multiple of 1,000,000 per step when the source has
            only an order); divided when `own_split`.
        items: `item_id`, `title` (null where unknown) and further attributes, all String, one row an item.
        problems: rows that could not be used.
        rows: rows read, bad ones included.
        sources: the files read.
        columns: which column of the source was read as what.
        ignored: columns of each table that were not read.
        left_out: rows that `keep` and `min_rating` left out.
        advice: what the user may want to choose otherwise.
        own_split: the source brings its split in `split`.
        notes: what a user should know about how the source was read.
    """

    name: str
    format: str
    events: Events
    items: pl.DataFrame
    problems: tuple[BadRow, ...]
    rows: int
    sources: tuple[SourceFile, ...]
    columns: dict[str, str] = field(default_factory=dict)
    own_split: bool = False
    notes: tuple[str, ...] = ()
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: int = 0
    advice: tuple[Advice, ...] = ()

    @classmethod
    def of(cls, name: str, form: str, log: Log, items: Items, sources: Iterable[SourceFile], *, own_split: bool = False) -> RawTables:
        """Put together what was read of the interactions and of the items."""
        return cls(
            name=name,
            format=form,
            events=log.events,
            items=items.frame,
            problems=(*log.problems, *items.problems),
            rows=log.rows + items.rows,
            sources=tuple(sources),
            columns={**log.columns, **items.columns},
            own_split=own_split,
            notes=(*log.notes, *items.notes),
            ignored={table: names for table, names in ((log.table, log.ignored), *items.ignored.items()) if names},
            left_out=log.left_out,
            advice=log.advice,
        )

    @property
    def interactions(self) -> pl.DataFrame:
        """The events as a table."""
        return self.events.frame()
