"""What quotes in CSV files mean, and which of them are slips."""

from __future__ import annotations

from pathlib import Path

import pytest

from laserrec.data.options import Quoting, ReadOptions
from laserrec.data.reading.rows import Rows
from laserrec.data.reading.table import Table


def opened(folder: Path, lines: list[str], name: str = "t.csv", quoting: Quoting = "auto") -> tuple[Table, Rows]:
    (folder / name).write_text("\n".join(lines) + "\n")
    table = Table.open(folder / name, ReadOptions(quoting=quoting))
    return table, table.read(table.columns)


def bad(rows: Rows) -> list[int]:
    return [problem.line for problem in rows.bad]


def test_inch_marks_inside_fields_are_characters_however_many(tmp_path: Path) -> None:
    lines = ["user,item,time,title", *(f"u{n},i{n},{n}," + ('24" wide' if n in (3, 500, 900, 1500) else "plain") for n in range(2000))]
    table, rows = opened(tmp_path, lines)
    assert (rows.frame.height, rows.bad, table.notes) == (2000, [], ())
    assert rows.frame["title"][3] == '24" wide'
    assert opened(tmp_path, lines)[0].read(["user"]).frame["user"].to_list() == [f"u{n}" for n in range(2000)]


def test_a_field_that_begins_with_a_stray_quote_swallows_nothing(tmp_path: Path) -> None:
    lines = ["user,item,time,title", 'a,1,1,"well, quoted"', 'a,2,2,"Best', "a,3,3,x", "a,4,4,y", 'a,5,5,size 24"', "a,6,6,z"]
    _, rows = opened(tmp_path, lines)
    assert (rows.frame["item"].to_list(), bad(rows)) == (["1", "3", "4", "5", "6"], [3])
    assert "joins this line with the rows below" in rows.bad[0].reason


def test_texts_over_several_lines_stay_whole(tmp_path: Path) -> None:
    lines = ["id,title", '1,"Soft shirt', 'sizes S, M"', '2,"a ""b"", c"', '3,"one', "", 'two"']
    table, rows = opened(tmp_path, lines)
    assert rows.frame.rows() == [("1", "Soft shirt\nsizes S, M"), ("2", 'a "b", c'), ("3", "one\n\ntwo")]
    assert ([rows.bad_row(row, "").line for row in range(3)], rows.bad, table.notes) == ([2, 4, 5], [], ())


def test_a_table_that_does_not_quote_is_read_so_and_says_so(tmp_path: Path) -> None:
    lines = ["id\ttitle", '1\t"The Five" talk', '2\t"Quoted start', "3\tplain", '4\tends with quote"']
    table, rows = opened(tmp_path, lines, "t.tsv")
    assert rows.frame["title"].to_list() == ['"The Five" talk', '"Quoted start', "plain", 'ends with quote"']
    assert table.notes[0].endswith("quotes are characters like others (quoting none)")
    table, rows = opened(tmp_path, lines, "t.tsv", "doubled")
    assert (bad(rows), table.notes) == ([2], ())
    assert rows.frame["title"].to_list() == ["Quoted start\n3\tplain\n4\tends with quote"]  # as it was told to


def test_quotes_after_backslashes(tmp_path: Path) -> None:
    lines = ["id,title,n", r'1,"24\" wide, black",1', r'2,"C:\dir, x",2', r'3,"ends in \\",3', r"4,C:\\plain,4"]
    table, rows = opened(tmp_path, lines)
    assert rows.frame["title"].to_list() == ['24" wide, black', r"C:\dir, x", "ends in \\", r"C:\\plain"]
    assert "quoting backslash" in table.notes[0]
    assert opened(tmp_path, lines, quoting="backslash")[1].frame.equals(rows.frame)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_fields_too_many_or_too_few_are_bad_rows_whatever_is_asked_for(tmp_path: Path, end: str) -> None:
    (tmp_path / "t.csv").write_bytes(end.join(["a,b,c", "1,2,3", "1,2,3,4", "1,2", "", "4,5,6"]).encode())
    table = Table.open(tmp_path / "t.csv", ReadOptions())
    for wanted in (["a"], ["c"], ["c", "a", "b"]):
        rows = table.read(wanted)
        assert (rows.frame.height, bad(rows)) == (2, [3, 4])
    assert [problem.reason for problem in rows.bad] == ["4 columns instead of 3", "2 columns instead of 3"]
    assert [rows.bad_row(row, "").line for row in range(rows.frame.height)] == [2, 6]


def test_a_column_that_is_not_read_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n3,\xff\n")
    with pytest.raises(Exception, match=r"t.csv:3: not utf-8"):
        Table.open(tmp_path / "t.csv", ReadOptions()).read(["a"])


def test_a_quote_never_closed_in_a_large_file_costs_one_row_and_little_time(tmp_path: Path) -> None:
    lines = ["user,item,time", *["u,i,1"] * 50_000, 'u,"i,2', *["u,i,3"] * 50_000]
    _, rows = opened(tmp_path, lines)
    assert (rows.frame.height, bad(rows)) == (100_000, [50_002])
