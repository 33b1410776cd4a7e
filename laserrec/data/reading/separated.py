"""CSV and TSV files: quickly by Polars where the bytes prove that nothing can go wrong, otherwise row by row."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from laserrec.data.options import ReadOptions
from laserrec.data.reading.files import PlainFile, file_kind
from laserrec.data.reading.quotes import Layout, layout_of, records
from laserrec.data.reading.rows import Places, Rows, named
from laserrec.data.reading.sound import Regular, prove_regular
from laserrec.data.reading.text import check_encoding, is_utf_8, raw_lines
from laserrec.data.tables import BadRow
from laserrec.errors import DataError

_CHUNK = 50_000  # rows that become columns at a time
_MEANT = {
    "backslash": "a quote inside a quoted field is written after a backslash (--quoting backslash)",
    "none": "quotes are characters like others (--quoting none)",
}


class Separated:
    """One file of separated fields, its header read and the meaning of its quotes known.

    Attributes:
        name: of the file.
        columns: the header's names, without white space around them.
        notes: guesses that the user should see.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Read the header, and prove that the file is regular or find out what its quotes mean.

        Raises:
            DataError: the file cannot be read, or its header or an option cannot be used.
        """
        self.name = path.name
        self._path = path
        self._encoding = options.encoding
        self._plain = PlainFile(path, options.max_unpacked_gib)
        check_encoding(path, self._plain, options.encoding)
        self._header_end, first = next(((number, line) for number, line in self._lines() if line.strip()), (0, ""))
        separator = self._separator(options, first)
        header = self._header(first, separator, options.quoting != "none")
        names, self.notes = named(self.name, header)
        self.columns = list(names)
        self._places = {name.strip(): place for place, name in enumerate(header)}
        self._layout = Layout(separator, len(header), "doubled" if options.quoting == "auto" else options.quoting)
        self._regular = self._proof()
        if options.quoting == "auto" and self._regular is None:
            self._layout = layout_of(self._body, separator, len(header))
            if meant := _MEANT.get(self._layout.reading):
                self.notes += (f"{self.name}: some quotes break the rules of CSV; fewest rows are lost where {meant}",)

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return some columns; see `laserrec.data.reading.table.Table.read`."""
        places = {name: self._places[name] for name in wanted}
        frame = self._read_fast(places, numbers) if self._regular else None
        if frame is not None:
            return Rows(frame, (Places(self.name, range(2, 2 + frame.height)),))
        return self._read_carefully(places)

    def _separator(self, options: ReadOptions, header: str) -> str:
        """Return what separates the fields: as told, a tab in TSV, else the comma, semicolon, tab or bar that the header has most of."""
        if options.delimiter is not None:
            if len(options.delimiter) != 1 or options.delimiter in '"\r\n' or ord(options.delimiter) > 127:
                raise DataError(
                    f"--delimiter must be one ASCII character that is no quote and no line end; received {options.delimiter[:20]!r}."
                )
            return options.delimiter
        if file_kind(self._path) == "tsv":
            return "\t"
        return max(",;\t|", key=header.count)

    def _header(self, line: str, separator: str, quoting: bool) -> list[str]:
        fields = line.rstrip("\r\n").split(separator)
        if quoting and '"' in line:
            rest = self._lines(self._header_end)
            reader = csv.reader((text for text in (line, *(text for _, text in rest))), delimiter=separator, strict=True)
            try:
                fields = next(reader)
            except csv.Error as error:
                raise DataError(f"The header cannot be read: {self.name}:{self._header_end}: {error}") from error
            self._header_end += reader.line_num - 1
        return fields if line.strip() else []

    def _lines(self, after: int = 0) -> Iterator[tuple[int, str]]:
        return ((number, line) for number, line in raw_lines(self._path, self._plain, self._encoding) if number > after)

    def _body(self) -> Iterator[tuple[int, str]]:
        return self._lines(self._header_end)

    def _proof(self) -> Regular | None:
        """Return what the bytes prove, where each line from the second on is one row by any reader."""
        if not is_utf_8(self._encoding) or self._header_end != 1 or self._layout.width < 2:
            return None
        found = prove_regular(self._plain.path, self._layout.separator, self._layout.width, self._layout.reading != "none")
        return None if found is not None and found.quoted and self._layout.reading == "backslash" else found

    def _read_fast(self, places: Mapping[str, int], numbers: Collection[str]) -> pl.DataFrame | None:
        assert self._regular is not None
        columns = [pl.col(str(place)).alias(name) for name, place in places.items()]
        whole = {str(place): pl.Int64 for name, place in places.items() if name in numbers}
        for types in (whole, {}) if whole else ({},):
            table = pl.scan_csv(
                self._plain.path,
                has_header=False,
                skip_lines=1,
                separator=self._layout.separator,
                quote_char='"' if self._layout.reading != "none" and self._regular.quoted else None,
                schema={str(place): types.get(str(place), pl.String) for place in range(self._layout.width)},
                glob=False,
            )
            try:
                frame = table.select(columns).collect(engine="streaming")
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
                continue
            if frame.height != self._regular.lines - 1:
                return None
            if self._regular.quoted:
                frame = frame.with_columns(_unblanked(pl.col(pl.String)))
            return frame
        return None

    def _read_carefully(self, places: Mapping[str, int]) -> Rows:
        bad: list[BadRow] = []
        lines = array("q")
        chunks = [pl.DataFrame(schema=dict.fromkeys(places, pl.String))]
        waiting: list[list[str]] = []
        for record in records(self._body(), self._layout):
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
