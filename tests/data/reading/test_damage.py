"""Bytes that are flipped, cut off or doubled give rows or an error of ours, in every format.

`LASERREC_EXAMPLES=20000 pytest tests/data/reading/test_damage.py` draws for an hour.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laserrec.data.options import Quoting, ReadOptions
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.errors import LaserrecError

EXAMPLES = int(os.environ.get("LASERREC_EXAMPLES", "25"))
ROWS = [{"user": f"u{n % 3}", "item": f"i{n % 4}", "time": n, "note": 'a "b", c\nd' if n % 2 else None, "more": [n]} for n in range(20)]
COLUMNS = ("user", "item", "time", "note")


def separated(delimiter: str) -> bytes:
    quoted = ['"' + str(row["note"] or "").replace('"', '""') + '"' for row in ROWS]
    fields = [[row["user"], row["item"], str(row["time"]), note] for row, note in zip(ROWS, quoted, strict=True)]
    return "\n".join(delimiter.join(map(str, line)) for line in [COLUMNS, *fields]).encode()


def parquet() -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(ROWS).write_parquet(stream)
    return stream.getvalue()


def sealed_parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), stream, write_page_checksum=True, data_page_version="2.0")
    return stream.getvalue()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", content)
    return stream.getvalue()


SOUND = {
    "log.csv": separated(","),
    "log.tsv": separated("\t"),
    "log.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "log.parquet": parquet(),
    "sealed.parquet": sealed_parquet(),
    "log.csv.gz": gzip.compress(separated(",")),
    "log.zip": zipped(separated(",")),
    "utf16.csv": separated(",").decode().encode("utf-16"),
}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 8)))
        middle = draw(st.sampled_from([b"", content[start:end] * 2, b'"', b"\0", b"\xff", b"\r", b"\\", b"," * 3]) | st.binary(max_size=4))
        content = content[:start] + middle + content[end:]
    return content if draw(st.integers(0, 3)) else content[: draw(st.integers(0, len(content)))]


@pytest.mark.parametrize("name", SOUND)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_ends_in_rows_or_an_error_of_ours(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("damage") / name
    source.write_bytes(data.draw(damaged(SOUND[name])))
    encoding = data.draw(st.sampled_from(["utf-8", "latin-1", "utf-16"])) if "parquet" not in name else "utf-8"
    quoting: Quoting = data.draw(st.sampled_from(["auto", "doubled", "backslash", "none"])) if "csv" in name else "auto"
    read = ReadOptions(encoding=encoding, quoting=quoting)
    with contextlib.suppress(LaserrecError):
        _, summary = prepare(Path(source), PrepareOptions(min_user=1, min_item=1, max_bad_share=1.0, read=read))
        assert summary.rows >= summary.bad_rows + summary.interactions
