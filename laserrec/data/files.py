"""Parquet files of our own: written with errors of Python's own, and sealed where no other file has their checksum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from laserrec.system.atomic import aside, system_error

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises on a damaged file; a panic of its Rust code is no `Exception`, so nothing else catches it."""

_SEAL = re.compile(rb"seal\x18@([0-9a-f]{64})")  # as a Parquet footer has a text of 64 letters under this name
_UNSEALED = b"0" * 64  # stands in the footer while the checksum is computed


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


def write_sealed(table: pl.DataFrame, path: Path, about: Mapping[str, str]) -> None:
    """Write a table as Parquet, atomically, with a sha256 over all bytes of the file in its footer.

    Args:
        table: the table.
        path: the file to write or replace.
        about: texts for the footer.

    Raises:
        OSError: the disk refuses.
    """
    with aside(path) as partial:
        write_parquet(table, partial, metadata={**about, "seal": _UNSEALED.decode()})
        content = partial.read_bytes()
        *_, place = _SEAL.finditer(content)  # the footer comes last
        with partial.open("r+b") as file:
            file.seek(place.start(1))
            file.write(hashlib.sha256(content).hexdigest().encode())


def sealed_bytes(path: Path) -> bytes | None:
    """Return the content of a file of `write_sealed`, compared with its checksum before anything decodes it; None if it has no seal.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    content = path.read_bytes()
    places = list(_SEAL.finditer(content))
    if not places:
        return None
    start, end = places[-1].span(1)
    if hashlib.sha256(content[:start] + _UNSEALED + content[end:]).hexdigest().encode() != content[start:end]:
        raise ValueError("its content does not match its checksum")
    return content
