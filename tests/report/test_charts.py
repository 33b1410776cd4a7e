"""Charts by themselves: what they draw, and how many lines."""

from __future__ import annotations

from collections.abc import Sequence

from laserrec.comparison.compare import Compared, Figure, Row, Table
from laserrec.comparison.slices import Slice
from laserrec.evaluation.metrics import Protocol
from laserrec.report import charts
from laserrec.report.sections import Canvas, slices_section


def test_numbers_of_charts() -> None:
    sizes = charts.bars("c", ["<1", "2"], [1234, 0], "events", "users").numbers
    assert sizes == charts.Numbers(["events", "users"], [["<1", "1,234"], ["2", "0"]])
    fit = charts.curves("c", [0, 1], [None, 2.5], [charts.Series("N@10", [0.125, 0.5])], 1).numbers
    assert fit == charts.Numbers(["epoch", "training loss", "N@10"], [["0", "–", "0.1250"], ["1, kept", "2.5000", "0.5000"]])


def test_slices_tell_how_many_users_they_have() -> None:
    kinds = [charts.Kind("1–2", 943), charts.Kind("<b>", 12_345)]
    chart = charts.lines("slices", kinds, [charts.Series("Laser", [0.1, 0.2])], "items", "N@10")
    axis, (trace,) = chart.layout["xaxis"], chart.data
    assert trace["x"] == axis["tickvals"] == ["1–2", "&lt;b&gt;"]
    assert axis["ticktext"] == ["1–2<br>n=943", "&lt;b&gt;<br>n=12k"]
    assert trace["text"] == ["1–2 (943 users)", "&lt;b&gt; (12,345 users)"]
    counts = (0, 999, 1_000, 1_250, 9_949, 9_950, 40_499, 999_999, 1_000_000, 3_210_000)
    assert [charts.short_count(count) for count in counts] == ["0", "999", "1k", "1.2k", "9.9k", "10k", "40k", "1M", "1M", "3.2M"]


def many_models(figures: Sequence[float]) -> Compared:
    """Return a comparison of models m0, m1, … that have these figures, and the other way round with seen items left out."""

    def table(protocol: Protocol, found: Sequence[float]) -> Table:
        rows = [
            Row(f"m{place}", ["run"], 1, {"ndcg@10": Figure(value, value, value, None)}, {}, 1.0, 1, None)
            for place, value in enumerate(found)
        ]
        values = {row.name: row.figures["ndcg@10"].mean for row in rows}
        return Table(protocol, rows, [], [Slice("items in the history", kind, 1, values) for kind in ("1–2", "3–4")], [])

    return Compared("shop", "00", "test", 2, [table("full", figures), table("filter_seen", figures[::-1])])


def test_slices_draw_no_more_models_than_lines_can_be_told_apart() -> None:
    canvas = Canvas()
    text = slices_section(many_models([0.01, 0.05, 0.02, 0.1, 0.09, 0.08, 0.07, 0.06, 0.03, 0.04]), canvas)
    chart, unseen = canvas.charts.values()
    # The first, whatever it has, and all others but the two lowest, m2 and m8, in the order they were named.
    assert [trace["name"] for trace in chart.data] == ["m0", "m1", "m3", "m4", "m5", "m6", "m7", "m9"]
    assert len({(trace["line"]["color"], trace["marker"]["symbol"]) for trace in chart.data}) == 8
    looks = [{trace["name"]: trace["line"]["color"] for trace in each.data} for each in (chart, unseen)]
    assert looks[0] == looks[1]
    assert "Drawn are m0 and the 7 others with the most N@10, seen items ranked too" in text
    assert all(text.count(f">m{place}</th>") == 2 for place in range(10))  # the tables leave none out
    assert "Drawn are" not in slices_section(many_models([0.1] * 8), Canvas())
