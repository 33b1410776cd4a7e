"""Parquet files: every type, damage, and nothing of the working folder."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from laserrec.data.options import ReadOptions
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
