"""Tables on disk whose writing fails with errors of Python's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from laserrec.system.atomic import system_error

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises on a damaged file; a panic of its Rust code is no `Exception`, so nothing else catches it."""


def write_parquet(table: pl.DataFrame, path: Path, **options: Any) -> None:  # noqa: ANN401 - Polars' own options
    """Write a table as Parquet.

    Args:
        table: the table.
        path: the file.
        options: more for `polars.DataFrame.write_parquet`.

    Raises:
        OSError: the disk refuses, which Polars reports as a damaged table.
    """
    try:
        table.write_parquet(path, **options)
    except pl.exceptions.PolarsError as error:
        raise system_error(error) from error
