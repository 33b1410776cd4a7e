"""Parquet files: every type, damage, and nothing of the working folder."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laserrec.data.options import ReadOptions
from laserrec.data.reading import parquet
from laserrec.data.reading.pages import Pages
from laserrec.data.reading.table import Table
from laserrec.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[3]


def column(folder: Path, values: pl.Series) -> pl.Series:
    pl.DataFrame({"v": values}).write_parquet(folder / "t.parquet")
    return Table.open(folder / "t.parquet", ReadOptions()).read(["v"]).frame["v"]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pl.Series([1, None], dtype=pl.UInt8), pl.Int64, [1, None]),
        (pl.Series([2**63, 1], dtype=pl.UInt64), pl.Object, [2**63, 1]),
        (pl.Series([0.1, 2.0], dtype=pl.Float32), pl.Float64, [0.1, 2.0]),
        (pl.Series([Decimal("7.00"), None]), pl.Int64, [7, None]),
        (pl.Series([Decimal("7.50"), Decimal("8.00")]), pl.Float64, [7.5, 8.0]),
        (pl.Series(["a", None], dtype=pl.Categorical), pl.String, ["a", None]),
        (pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])), pl.String, ["a", "b"]),
        (pl.Series([b"a", None]), pl.String, ["a", None]),
        (pl.Series([b"a", b"\xff"]), pl.Object, ["a", b"\xff"]),
        (pl.Series([[1], None]), pl.Object, [[1], None]),
        (pl.Series([{"x": 1, "y": ["z"]}]), pl.Object, [{"x": 1, "y": ["z"]}]),
        (pl.Series([None, None]), pl.String, [None, None]),
        (pl.Series([True, None]), pl.Boolean, [True, None]),
        (pl.Series([datetime.date(2026, 1, 2)]), pl.Date, [datetime.date(2026, 1, 2)]),
    ],
)
def test_types(tmp_path: Path, values: pl.Series, kind: pl.DataType, expected: list[object]) -> None:
    read = column(tmp_path, values)
    assert (read.dtype, read.to_list()) == (kind, expected)


def test_damage_is_an_error_and_the_next_file_is_read(tmp_path: Path) -> None:
    source, healthy = tmp_path / "t.parquet", tmp_path / "healthy.parquet"
    pl.DataFrame({"user": [f"u{row % 9}" for row in range(300)], "time": range(300)}).write_parquet(source)
    whole = source.read_bytes()
    healthy.write_bytes(whole)
    draw = random.Random(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: draw.choice([len(whole), draw.randrange(len(whole))])])
        for _ in range(draw.randrange(1, 6)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        source.write_bytes(damaged)
        try:
            table = Table.open(source, ReadOptions())
            table.read(table.columns)
        except DataError as error:
            refused += str(error).startswith("t.parquet cannot be read as Parquet: ")
    assert refused > 20
    assert Table.open(healthy, ReadOptions()).read(["time"]).frame["time"].sum() == 44_850


def test_nothing_in_the_working_folder_runs(tmp_path: Path) -> None:
    trap = "import os\nos.mkdir('sprung')\n"
    for name in ("polars", "json", "pip", "_polars_runtime_32", "sitecustomize", "tempfile"):
        (tmp_path / f"{name}.py").write_text(trap)
    pl.DataFrame({"user": ["u"], "item": ["i"], "time": [1]}).write_parquet(tmp_path / "log.parquet")
    # `-P` keeps the working folder from this process, as the installed command does; the children have to see to it themselves.
    code = "from laserrec import PrepareOptions as O, prepare; print(prepare('log.parquet', O(min_user=1, min_item=1))[1].interactions)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran.stderr
    assert not (tmp_path / "sprung").exists()


def _read(path: str) -> int:
    return Table.open(Path(path), ReadOptions()).read(["v"]).frame.height


def test_another_process_has_another_decoder(tmp_path: Path) -> None:
    column(tmp_path, pl.Series([1, 2, 3]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read, (str(tmp_path / "t.parquet"),)) == 3
    assert _read(str(tmp_path / "t.parquet")) == 3


def rows_of(path: Path) -> list[tuple[object, ...]]:
    table = Table.open(path, ReadOptions())
    return table.read(table.columns).frame.rows()


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_flipped_bit_of_a_page_with_a_checksum_is_an_error(tmp_path: Path, version: str) -> None:
    source = tmp_path / "t.parquet"
    table = pa.table({"user": [f"u{row % 9}" for row in range(300)], "tags": [[row, 1] for row in range(300)], "time": range(300)})
    pq.write_table(table, source, write_page_checksum=True, data_page_version=version, row_group_size=100)
    whole, groups = source.read_bytes(), pq.ParquetFile(source).metadata
    assert rows_of(source) == [(f"u{row % 9}", [row, 1], row) for row in range(300)]
    ends = []
    for group in range(3):
        for column in range(3):
            chunk = groups.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            ends.append(start + chunk.total_compressed_size)
    for end in ends:
        for bit in (0, 7):
            damaged = bytearray(whole)
            damaged[end - 1] ^= 1 << bit  # the last byte of a chunk is one of its last page's
            source.write_bytes(damaged)
            with pytest.raises(DataError, match="does not match its checksum"):
                rows_of(source)
    last = bytearray(whole)
    last[ends[-1] - 1] ^= 1  # of the column `time`
    source.write_bytes(last)
    assert Table.open(source, ReadOptions()).read(["user"]).frame.height == 300


def test_pages_are_looked_at_once(tmp_path: Path) -> None:
    """A footer that names the same pages again and again makes no work."""
    source = tmp_path / "t.parquet"
    pq.write_table(pa.table({"v": range(1000)}), source, write_page_checksum=True, compression="none", use_dictionary=False)
    pages = Pages(source)
    pages.check(["v"])
    pages._chunks *= 10
    with pytest.raises(ValueError, match="overlap"):
        pages.check(["v"])


@pytest.mark.parametrize(("lists", "honest"), [(False, True), (True, True), (False, False)])
def test_a_small_file_that_decodes_to_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: bool, honest: bool) -> None:
    source, healthy = tmp_path / "t.parquet", tmp_path / "healthy.parquet"
    if lists:
        pl.DataFrame({"v": [[7] * 1_000_000] * 10}).write_parquet(source)
    else:
        pl.LazyFrame().select(pl.repeat(7, 40_000_000, dtype=pl.Int64).alias("v")).sink_parquet(source)
    assert source.stat().st_size < 2**20
    monkeypatch.setattr("laserrec.data.reading.parquet._ALWAYS_DECODED", 300_000_000)
    monkeypatch.setattr("laserrec.data.reading.parquet.free_memory", lambda: 0)
    if not honest:  # the footer says that there is less
        monkeypatch.setattr(Pages, "least_memory", lambda *_: 0)
    with pytest.raises(DataError, match="take more than 0.3 GiB" if honest else "it is damaged, or decoding it takes more than 0.3 GiB"):
        rows_of(source)
    pl.DataFrame({"v": [1]}).write_parquet(healthy)
    assert rows_of(healthy) == [(1,)]


def test_an_interrupted_answer_is_not_the_next_file_s(tmp_path: Path) -> None:
    """The decoder is stopped while it is asked for one file, so the interruption comes before its answer."""
    for name in ("one", "two"):
        pl.DataFrame({name: [1]}).write_parquet(tmp_path / f"{name}.parquet")
    assert list(Table.open(tmp_path / "one.parquet", ReadOptions()).columns) == ["one"]
    worker = parquet._WORKER._running().pid

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        os.kill(worker, signal.SIGSTOP)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            Table.open(tmp_path / "one.parquet", ReadOptions())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert list(Table.open(tmp_path / "two.parquet", ReadOptions()).columns) == ["two"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list a process's open files")
def test_parts_are_not_held_open(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for part in range(20):
        pl.DataFrame({"user": [f"u{part}"]}).write_parquet(tmp_path / "log" / f"part-{part:03}.parquet")
    Table.open(tmp_path / "log" / "part-000.parquet", ReadOptions())  # the decoder runs from here on
    before = len(os.listdir("/proc/self/fd"))
    table = Table.open(tmp_path / "log", ReadOptions())
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(table.read(["user"]).frame["user"]) == sorted(f"u{part}" for part in range(20))
