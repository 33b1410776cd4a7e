"""The same rows give the same dataset in every format, as Python's own csv and json and a few lines of plain Python have them.

`LASERREC_EXAMPLES=20000 pytest tests/data/reading/test_same_rows.py` draws for an hour.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from laserrec.data.options import ReadOptions
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.data.reading.memory import Tables
from laserrec.errors import BadRowsError, DataError

EXAMPLES = int(os.environ.get("LASERREC_EXAMPLES", "40"))
WHITE = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u2028\u2029\u3000"
MARKS = ["NA", "NULL", "None", "nan", "\\N", "N/A"]
LETTERS = "ab7.0 ,;\t\"'\\|\n\r\u2028\x0b\x1cé椅"
Row = dict[str, Any]
Made = tuple[str, list[tuple[str, str, int, str]], dict[str, dict[str, str]], int, list[int]]

IDS = st.one_of(
    st.sampled_from(["7", "7.0", "7.00", "8", "007", "12345678901234567", "x", "x ", "\u3000x", '"x"', "a,b", "true", *MARKS]),
    st.text(LETTERS, max_size=6),
    st.none(),
)
TEXTS = st.one_of(st.none(), st.text(LETTERS, max_size=20), st.sampled_from(MARKS), st.just('size 24" and more ' * 3))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Draw a log, whose moments are all different, and items, whose ids are."""
    events = draw(st.lists(st.tuples(IDS, IDS, TEXTS), min_size=1, max_size=10))
    moments = draw(st.permutations(range(len(events))))
    log = [
        {"user": user, "item": item, "time": 1_500_000_000 + 10 * when, "note": note}
        for (user, item, note), when in zip(events, moments, strict=True)
    ]
    keys = [*dict.fromkeys(row["item"] for row in log if known(row["item"])), "never"]
    items = [{"item": key, "title": draw(TEXTS), "late": draw(TEXTS)} for key in keys if draw(st.booleans())]
    different = {known(row["item"]): row for row in items}
    return log, list(different.values())


def known(value: str | None) -> str | None:
    """Return an id as it is read."""
    text = (value or "").strip(WHITE)
    if not text or text in MARKS:
        return None
    return text.partition(".")[0] if re.fullmatch(r"-?(0|[1-9]\d*)\.0+", text) else text


def said(value: str | None) -> str | None:
    """Return a text as it is read."""
    text = re.sub(f"[{WHITE}]+", " ", value or "").strip(" ")
    return None if not text or text in MARKS else re.sub(r"^(-?(?:0|[1-9]\d*))\.0$", r"\1", text)


def expected(log: Sequence[Row], items: Sequence[Row]) -> Made:
    """Work out fingerprint, events with their splits, texts, rows and bad rows."""
    bad, users = [], {}
    for place, row in enumerate(log):
        user, item = known(row["user"]), known(row["item"])
        if user is None or item is None:
            bad.append(place)
        else:
            users.setdefault(user, []).append((row["time"], item))
    events = []
    for user in sorted(users, key=str.encode):
        sequence = sorted(users[user])
        splits = ["train"] * len(sequence)
        if len(sequence) >= 3:
            splits[-2:] = ["valid", "test"]
        events += [(user, item, when, split) for (when, item), split in zip(sequence, splits, strict=True)]
    names = sorted({item for _, item, _, _ in events}, key=str.encode)
    texts = {known(row["item"]): {name: text for name in ("title", "late") if (text := said(row[name]))} for row in items}
    order, people = (
        {name: place for place, name in enumerate(names)},
        {name: place for place, name in enumerate(sorted(users, key=str.encode))},
    )
    digest = hashlib.sha256(b"laserrec split 1\n")
    for ids in (list(order), list(people)):
        digest.update(json.dumps(ids, separators=(",", ":")).encode())
    for column in ([people[e[0]] for e in events], [order[e[1]] for e in events], [("train", "valid", "test").index(e[3]) for e in events]):
        digest.update(struct.pack(f"<{len(column)}q", *column))
    return digest.hexdigest(), events, {name: texts.get(name, {}) for name in names}, len(log) + len(items), bad


def separated(rows: Sequence[Row], columns: Sequence[str], delimiter: str, end: str, always: bool) -> tuple[str, list[int]]:
    """Write rows as CSV, and return it with the line that each row starts at."""
    text = io.StringIO(newline="")
    always = always or any("\r" in str(row[name]) for row in rows for name in columns)  # Python's writer forgets to quote it
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL)
    writer.writerows([columns, *([row[name] for name in columns] for row in rows)])
    reader = csv.reader(io.StringIO(text.getvalue(), newline=""), delimiter=delimiter)
    starts = []
    for number, fields in enumerate(reader):
        assert fields == [str(rows[number - 1][name] or "") if number else name for name in columns]
        starts.append(reader.line_num + 1)
    return text.getvalue(), starts[:-1]


def json_lines(rows: Sequence[Row], typed: bool, draw: Any) -> str:  # noqa: ANN401 - of hypothesis
    """Write rows without what they lack, and ids that look like numbers as such."""
    lines = []
    for row in rows:
        written: dict[str, object] = {name: value for name, value in row.items() if value is not None or draw(st.booleans())}
        for name in ("user", "item"):
            value = row.get(name)
            if typed and value is not None and re.fullmatch(r"[1-9]\d{0,12}(\.0)?", value):
                written[name] = draw(st.sampled_from([value, float(value), int(float(value))]))
            if typed and value is None:
                written[name] = draw(st.sampled_from([None, float("nan")]))
        lines.append(json.dumps(written, ensure_ascii=draw(st.booleans())))
    assert all(json.loads(line) is not None for line in lines)
    return "\n".join(lines) + "\n"


def frame(rows: Sequence[Row], columns: Sequence[str], numbers: bool) -> pl.DataFrame:
    table = pl.DataFrame({name: [row[name] for row in rows] for name in columns}, strict=True)
    for name in ("user", "item"):
        if numbers and name in columns and all(re.fullmatch(r"[1-9]\d{0,12}", row[name] or "") for row in rows):
            table = table.with_columns(pl.col(name).cast(pl.Float64))
    return table.with_columns(pl.col(pl.Null).cast(pl.String))


def found(source: Path | Tables, read: ReadOptions) -> Made | None:
    try:
        data, summary = prepare(source, PrepareOptions(min_user=1, min_item=1, max_bad_share=1.0, read=read))
    except DataError as error:
        if isinstance(error, BadRowsError) or "No interaction is left" in str(error):
            return None
        raise
    return (
        data.fingerprint,
        data.interactions.rows(),
        texts_of(data.item_ids, data.attributes()),
        summary.rows,
        [problem.line for problem in summary.problems],
    )


def texts_of(ids: Sequence[str], attributes: Sequence[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {name: dict(texts) for name, texts in zip(ids, attributes, strict=True)}


LOG, ITEMS = ("user", "item", "note", "time"), ("item", "title", "late")


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 40,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=(Phase.generate,),
)
@given(data=st.data())
def test_every_format_gives_what_plain_python_reads(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    log, items = data.draw(tables())
    folder = tmp_path_factory.mktemp("same")
    made = expected(log, items)

    def goal(lines: Sequence[int]) -> Made | None:
        return (*made[:4], [lines[row] for row in made[4]]) if made[1] else None

    numbers = range(1, len(log) + 1)
    encoding, packed = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])), data.draw(st.booleans())
    sides = (("log", log, LOG), ("items", items, ITEMS))
    broken = any(end in str(value) for _, rows, _ in sides for row in rows for value in row.values() for end in "\r\n")
    quoting = "doubled" if broken else data.draw(st.sampled_from(["auto", "doubled"]))
    delimiter, end, always = data.draw(st.sampled_from(",;\t|")), data.draw(st.sampled_from(["\n", "\r\n"])), data.draw(st.booleans())
    some = bool(items)

    def put(ending: str, contents: Sequence[str]) -> ReadOptions:
        for (name, _, _), content in zip(sides, contents, strict=True):
            raw = content.encode(encoding)
            (folder / f"{name}.{ending}").write_bytes(gzip.compress(raw) if packed else raw)
        items_file = folder / f"items.{ending}" if some else None
        return ReadOptions(items=items_file, encoding=encoding)

    written = [separated(rows, columns, delimiter, end, always) for _, rows, columns in sides]
    read = put("csv", [text for text, _ in written])
    options = {"items": read.items, "encoding": encoding, "quoting": quoting, "delimiter": delimiter}
    assert found(folder / "log.csv", ReadOptions(**options)) == goal(written[0][1])
    read = put("jsonl", [json_lines(rows, data.draw(st.booleans()), data.draw) for _, rows, _ in sides])
    if all(any(row.get(name) is not None for row in rows) for _, rows, columns in sides for name in columns if some or rows is log):
        assert found(folder / "log.jsonl", read) == goal(numbers)
    frames = [frame(rows, columns, data.draw(st.booleans())) for _, rows, columns in sides]
    for (name, _, _), table in zip(sides, frames, strict=True):
        table.write_parquet(folder / f"{name}.parquet")
    assert found(folder / "log.parquet", ReadOptions(items=folder / "items.parquet" if some else None)) == goal(numbers)
    assert found(Tables(frames[0], frames[1] if some else None), ReadOptions()) == goal(numbers)
