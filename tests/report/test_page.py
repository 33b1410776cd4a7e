"""The page: nothing breaks out of it, nothing is loaded, everything is told."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest
from hostile import TITLES, USERS

from laserrec.errors import CheckpointError, DataError, MissingExtraError
from laserrec.report import charts, page
from laserrec.report.markup import Html, element, label, script_json, table
from laserrec.runs.folder import RunFolder


class Outline(HTMLParser):
    """Tags with their attributes, scripts by their place, and what stands in `bdi`."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.titles: set[str] = set()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside == "bdi":
            self.titles.add(data)
        else:
            self.texts.append(data)


@pytest.fixture(scope="module")
def written(demonstrated: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(demonstrated / "cache"))
        page.write_report(RunFolder.open(demonstrated / "run"), demonstrated / "report.html")
    return (demonstrated / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(written: str) -> Outline:
    return Outline(written)


@pytest.fixture(scope="module")
def drawn(outline: Outline) -> dict[str, Any]:
    return json.loads(outline.scripts[0])


def strings(value: object) -> list[str]:
    """Every string below a value."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in strings(part)]


def test_titles_stay_text(outline: Outline) -> None:
    tags = {tag for tag, _ in outline.tags}
    assert not tags & {"i", "u", "img", "svg", "iframe", "link"}
    assert [tag for tag, _ in outline.tags].count("script") == 3
    assert not {name for _, attributes in outline.tags for name in attributes if name.startswith("on")}
    assert outline.titles >= {undirected(text) for text in (*TITLES, *USERS)}
    assert "bold" not in outline.texts


def undirected(text: str) -> str:
    return re.sub("[\u202a-\u202e\u2066-\u2069]", "", text)


def test_nobodys_direction_of_writing_goes_on_behind_them(outline: Outline, drawn: dict[str, Any]) -> None:
    attributes = [str(value) for _, named in outline.tags for value in named.values()]
    for text in (*outline.texts, *outline.titles, *attributes):
        assert undirected(text) == text
    found = strings(drawn)
    turned = [text for text in found if undirected(text) != text]
    assert turned
    for text in turned:  # each isolate that a label opened it closes, and nothing in between does
        alone = re.sub("\u2068([^\u202a-\u202e\u2066-\u2069]*)\u2069", r"\1", text)
        assert undirected(alone) == alone


def test_charts_read_titles_as_text(drawn: dict[str, Any]) -> None:
    found = strings(drawn)
    shown = [text for text in found if "bold" in text or "Camp" in text or "anna" in text]
    assert shown
    for text in shown:
        assert "<" not in text
    # Plotly's own tag in the templates of what is pointed at, and a break below slices' names, are the only ones.
    assert {tag for text in found for tag in re.findall(r"<[^>]*>", text)} == {"<extra>", "</extra>", "<br>"}


def test_plotly_knows_every_property(drawn: dict[str, Any]) -> None:
    assert len(drawn) >= 18
    for chart in drawn.values():
        plotly.graph_objects.Figure(chart)
        axes = [value for key, value in chart["layout"].items() if key.startswith(("xaxis", "yaxis"))]
        assert all(axis["automargin"] for axis in axes)
        assert any(axis["title"]["text"] for axis in axes)


def test_every_chart_has_a_place_and_a_name(outline: Outline, drawn: dict[str, Any]) -> None:
    places = {attributes["id"]: attributes for _, attributes in outline.tags if "aria-labelledby" in attributes}
    captions = [attributes["id"] for tag, attributes in outline.tags if tag == "figcaption"]
    assert places.keys() == drawn.keys()
    assert [attributes["aria-labelledby"] for attributes in places.values()] == captions
    # The map can be moved and has buttons, which nobody would hear of inside an image.
    roles = {name: "group" if chart["layout"]["dragmode"] == "pan" else "img" for name, chart in drawn.items()}
    assert {name: attributes["role"] for name, attributes in places.items()} == roles
    assert list(roles.values()).count("group") == 1


def test_tables_name_their_columns_and_rows_and_scroll_by_keyboard(outline: Outline) -> None:
    heads = [attributes.get("scope") for tag, attributes in outline.tags if tag == "th"]
    rows = [tag for tag, _ in outline.tags].count("tr")
    tables = [attributes for tag, attributes in outline.tags if attributes.get("class") == "scroll"]
    assert len(tables) == [tag for tag, _ in outline.tags].count("table") > 15
    assert heads.count("row") == rows - len(tables)  # every row but that of the heads
    assert set(heads) == {"row", "col"}
    for attributes in tables:
        assert (attributes["tabindex"], attributes["role"]) == ("0", "region")
        assert attributes["aria-label"]
    assert len({attributes["aria-label"] for attributes in tables}) == len(tables)


def test_what_charts_draw_is_also_a_table(written: str, drawn: dict[str, Any]) -> None:
    figures = re.findall(r'<figure>.*?id="(chart-\d+)".*?</figure>', written)
    assert figures == list(drawn)
    for name, figure in zip(figures, re.findall(r"<figure>.*?</figure>", written), strict=True):
        traces, plan = drawn[name]["data"], drawn[name]["layout"]
        upright = traces[0]["type"] == "bar" and traces[0].get("orientation") != "h"
        assert ("<details>" in figure) == (upright or "yaxis2" in plan), name


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Ratio of two colours as WCAG 2 defines it, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_from_the_page() -> None:
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    style = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"(--[\w-]+): (#\w+)", part)) for part in style.partition("* {")[0].split("@media"))
    for theme in (light, dark):
        assert len([name for name in theme if name.startswith("--series-")]) == len(charts.COLOURS)
        for name, colour in theme.items():
            # 3:1 for what is drawn, 4.5:1 for what is read (WCAG 2.2, 1.4.11 and 1.4.3).
            if name.startswith("--series-") or name in {"--low", "--high"}:
                assert contrast(colour, theme["--page"]) >= 3, name
            if name in {"--ink", "--faint", "--series-0"}:
                assert contrast(colour, theme["--page"]) >= 4.5, name
        assert contrast(theme["--ink"], theme["--hit"]) >= 4.5
        assert contrast(theme["--ink"], theme["--panel"]) >= 4.5


def test_colours_are_variables_of_the_page(written: str, drawn: dict[str, Any]) -> None:
    named = {text[4:-1] for text in strings(drawn) if text.startswith("var(")}
    style = written.partition("<style>")[2].partition("</style>")[0]
    assert named
    for name in named:
        assert style.count(f"{name}:") == 2, name  # light and dark


def test_nothing_is_loaded_and_no_other_script_runs(outline: Outline) -> None:
    assert not {name for _, attributes in outline.tags for name in attributes if name in {"src", "srcset", "action", "data"}}
    assert {attributes["href"][0] for tag, attributes in outline.tags if tag == "a" and attributes["href"]} == {"#"}
    policy = next(
        str(attributes["content"]) for tag, attributes in outline.tags if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    checksums = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in outline.scripts[1:]]
    assert re.findall(r"'sha256-([^']+)'", policy) == checksums


def test_links_lead_to_sections(outline: Outline) -> None:
    ids = {attributes.get("id") for _, attributes in outline.tags}
    links = [str(attributes["href"])[1:] for tag, attributes in outline.tags if tag == "a"]
    assert links == ["data", "results", "slices", "training", "map", "users", "cost", "repeat"]
    assert set(links) <= ids


def test_what_is_told(outline: Outline, demonstrated: Path) -> None:
    text = " ".join(outline.texts)
    about = json.loads((demonstrated / "run" / "run.json").read_text())
    for fact in (
        about["data"]["fingerprint"],
        "laserrec demo --out 'a b'",
        about["environment"]["torch"],
        "stage1.epochs",
        "Holm-corrected",
        "neighbours here need not be neighbours in full",
        "coloured by the first word of genre",
    ):
        assert fact in text
    assert "Laser on <shop>" in outline.texts
    hits = text.count("✓ test event")
    assert f"{hits} of 8 lists hold the item of the test event" in text


def test_the_same_run_gives_the_same_page(written: str, demonstrated: Path, tmp_path: Path) -> None:
    page.write_report(RunFolder.open(demonstrated / "run"), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == written


def test_without_other_models(copied: Path) -> None:
    for ranks in (copied / "run").glob("*/ranks-test.parquet"):
        ranks.unlink()
    page.write_report(RunFolder.open(copied / "run"), copied / "report.html")
    text = " ".join(Outline((copied / "report.html").read_text(encoding="utf-8")).texts)
    assert "No other model was named, or evaluated in this run's folder" in text
    assert "no other model was evaluated beside it" in text
    assert "against the others, paired" not in text


def test_several_runs_on_the_command_line(copied: Path, seeded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("report", copied / "run", seeded)()
    assert f"Report: {copied / 'run' / 'report.html'}" in capsys.readouterr().out
    text = " ".join(Outline((copied / "run" / "report.html").read_text(encoding="utf-8")).texts)
    assert "Laser over 2" in text
    assert f"is of the first of them, {copied / 'run'}" in text
    assert "± " in text
    assert not (seeded / "report.html").exists()


def test_an_older_run_has_neither_plan_nor_environment(copied: Path) -> None:
    about = json.loads((copied / "run" / "run.json").read_text())
    for name in ("environment", "phases", "peak_memory"):
        del about[name]
    (copied / "run" / "run.json").write_text(json.dumps(about))
    page.write_report(RunFolder.open(copied / "run"), copied / "report.html")
    text = (copied / "report.html").read_text(encoding="utf-8")
    assert "not noted" in text
    assert "Of its environment this run noted the version" in text


def command(*words: object) -> Callable[[], None]:
    from laserrec.cli import app

    return lambda: app([str(word) for word in words], standalone_mode=False)


def test_a_dataset_that_moved(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = json.loads((copied / "run" / "run.json").read_text())
    about["data"]["absolute"] = str(copied / "data")
    (copied / "run" / "run.json").write_text(json.dumps(about))
    (copied / "data").rename(copied / "moved")
    with pytest.raises(DataError, match="Say where it is"):
        command("report", copied / "run")()
    assert not (copied / "run" / "report.html").exists()
    command("report", copied / "run", "--data", copied / "moved")()
    assert f"Report: {copied / 'run' / 'report.html'}" in capsys.readouterr().out


def test_a_run_that_cannot_be_told_of(copied: Path) -> None:
    (copied / "run" / "ranks-test.parquet").unlink()
    with pytest.raises(DataError, match="was not evaluated on test"):
        command("report", copied / "run")()
    shutil.rmtree(copied / "run" / "model")
    with pytest.raises(CheckpointError, match="holds no trained model yet"):
        command("report", copied / "run")()


def test_a_missing_package_is_named_before_anything_is_read(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setattr(page, "gather", lambda *_: pytest.fail("the run was read"))
    with pytest.raises(MissingExtraError, match=r"pip install 'laserrec\[report\]'"):
        command("report", copied / "run")()


def test_markup() -> None:
    assert element("p", "<", element("b", "&"), class_='"') == '<p class="&quot;">&lt;<b>&amp;</b></p>'
    assert table("n", ["a", "b"], [["<", Html("<b></b>")]]).count("<b></b>") == 1
    value = {"</script>": ["<!--", "&", "\u2028", 1.5, None]}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028")
    with pytest.raises(ValueError, match="JSON"):
        script_json(float("nan"))


def test_labels() -> None:
    assert label("<b>a &\n b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"
    assert label("שלום") == "\u2068שלום\u2069"
    assert label("שלום\u2069 \u202eabc\u2066") == "\u2068שלום abc\u2069"
    assert label("\u202eabc") == "abc"
    assert element("p", "a\u2069b", title="\u202ec") == '<p title="c">ab</p>'
    assert label("x" * 100, limit=5) == "xxxx…"
