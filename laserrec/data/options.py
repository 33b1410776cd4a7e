"""What a user may say about how a source is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
