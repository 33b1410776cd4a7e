"""CSV and TSV files: quickly by Polars where the bytes prove that nothing can go wrong, otherwise row by row."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path

import polars as pl

from laserrec.data.options import ReadOptions
from laserrec.data.reading.contents import TextFile
from laserrec.data.reading.quotes import Layout, layout_of, records
from laserrec.data.reading.rows import Places, Rows, named
from laserrec.data.reading.sound import Regular, prove_regular
from laserrec.data.tables import BadRow
from laserrec.errors import DataError

_CHUNK = 50_000  # rows that become columns at a time
_MEANT = {
    "backslash": "a quote inside a quoted field is written after a backslash (quoting backslash)",
    "none": "quotes are characters like others (quoting none)",
}


class Separated:
    """One file of separated fields, its header read and the meaning of its quotes known.

    Attributes:
        name: of the file.
        columns: the header's names, without white space around them.
        notes: guesses that the user should see.
    """

    def __init__(self, path: Path, options: ReadOptions, *, tabs: bool) -> None:
        """Read the header, and prove that the file is regular or find out what its quotes mean.

        Args:
            path: the file.
            options: `encoding`, `delimiter`, `quoting` and `max_unpacked_gib`.
            tabs: without a `delimiter`, fields are separated by tabs; otherwise by the comma, semicolon, tab or bar that the header
                has most of.

        Raises:
            DataError: the file cannot be read, or its header or an option cannot be used.
        """
        self.name = path.name
        if (given := options.delimiter) is not None and (len(given) != 1 or given in '"\r\n' or ord(given) > 127):
            message = f"The delimiter must be one ASCII character that is no quote and no line end; received {given[:20]!r}."
            raise DataError(message, parameters=["delimiter"])
        self._text = TextFile(path, options.encoding, options.max_unpacked_gib)
        self._header_end, line = self._text.first_line()
        separator = given or ("\t" if tabs else max(",;\t|", key=line.count))
        header = line.rstrip("\r\n").split(separator) if line else []
        if '"' in line and options.quoting != "none":
            header = self._quoted_header(line, separator)
        self._places, self.notes = named(self.name, header)
        self.columns = list(self._places)
        self._layout = Layout(separator, len(header), "doubled" if options.quoting == "auto" else options.quoting)
        self._regular: Regular | None = None
        if self._text.is_utf_8 and self._header_end == 1:
            self._regular = prove_regular(self._text.path, self._layout)
        if self._regular is None and options.quoting == "auto":
            self._layout = layout_of(lambda: self._text.lines(self._header_end), separator, len(header))
            if meant := _MEANT.get(self._layout.reading):
                self.notes += (f"{self.name}: some quotes break the rules of CSV; fewest rows are lost where {meant}",)

    def _quoted_header(self, line: str, separator: str) -> list[str]:
        """Return the fields of a header with quotes, which may go on over the lines below."""
        lines = chain([line], (further for _, further in self._text.lines(self._header_end)))
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            fields = next(reader)
        except csv.Error as error:
            raise DataError(f"The header cannot be read: {self.name}:{self._header_end}: {error}") from error
        self._header_end += reader.line_num - 1
        return fields

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return some columns; see `laserrec.data.reading.rows.AnyTable.read`."""
        places = {name: self._places[name] for name in wanted}
        frame = None if self._regular is None else self._read_fast(self._regular, places, numbers)
        if frame is not None:
            return Rows(frame, (Places(self.name, range(2, 2 + frame.height)),))
        return self._read_carefully(places)

    def _read_fast(self, regular: Regular, places: Mapping[str, int], numbers: Collection[str]) -> pl.DataFrame | None:
        columns = [pl.col(str(place)).alias(name) for name, place in places.items()]
        whole = {str(place): pl.Int64 for name, place in places.items() if name in numbers}
        for types in (whole, {}) if whole else ({},):
            table = pl.scan_csv(
                self._text.path,
                has_header=False,
                skip_lines=1,
                separator=self._layout.separator,
                quote_char='"' if regular.quoted else None,
                schema={str(place): types.get(str(place), pl.String) for place in range(self._layout.width)},
                glob=False,
            )
            try:
                frame = table.select(columns).collect(engine="streaming")
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
                continue
            if frame.height != regular.lines - 1:
                return None
            return frame.with_columns(_unblanked(pl.col(pl.String))) if regular.quoted else frame
        return None

    def _read_carefully(self, places: Mapping[str, int]) -> Rows:
        bad: list[BadRow] = []
        lines = array("q")
        chunks = [pl.DataFrame(schema=dict.fromkeys(places, pl.String))]
        waiting: list[list[str]] = []
        for record in records(self._text.lines(self._header_end), self._layout):
            if record.trouble is not None:
                bad.append(BadRow(self.name, record.line, record.trouble))
                continue
            lines.append(record.line)
            waiting.append(record.fields)
            if len(waiting) == _CHUNK:
                chunks.append(_chunk(waiting, places))
                waiting = []
        chunks.append(_chunk(waiting, places))
        return Rows(pl.concat(chunks), (Places(self.name, lines),), bad)


def _chunk(rows: list[list[str]], places: Mapping[str, int]) -> pl.DataFrame:
    columns = {name: pl.Series(name, [row[place] for row in rows], dtype=pl.String) for name, place in places.items()}
    return pl.DataFrame(columns).with_columns(_unblanked(pl.all()))


def _unblanked(column: pl.Expr) -> pl.Expr:
    """Return a column with null for what is empty: CSV cannot tell the two apart."""
    return pl.when(column != "").then(column)
