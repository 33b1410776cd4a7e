"""HTML in which whatever comes from outside is text: every string is escaped when it enters, unless it was made here.

The invisible letters that turn the direction of writing are left out of it: one of them would end the isolation of what it stands in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from unicodedata import bidirectional

from laserrec.comparison.layout import DIRECTIONS

VOID = ("meta",)
FROM_THE_RIGHT = {"R", "AL", "AN"}


class Html(str):
    """Text that is HTML already."""


def element(tag: str, *content: str, **attributes: str) -> Html:
    """Return an element; what is not `Html` is escaped, and a `_` at an attribute's end, or inside as `-`, is Python's.

    Args:
        tag: its name.
        content: what stands inside.
        attributes: such as `class_="wide"` and `aria_label="…"`.
    """
    named = "".join(f' {name.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{named}>" + ("" if tag in VOID else f"{joined(content)}</{tag}>"))


def joined(parts: Iterable[str]) -> Html:
    """Return parts one after the other."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def _escaped(text: str) -> str:
    return escape(text.translate(DIRECTIONS))


def title(text: str) -> Html:
    """Return the title or id of an item or user: its direction of writing ends where it ends."""
    return element("bdi", text)


def table(name: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> Html:
    """Return a table that scrolls sideways where it is too wide, by the keyboard too.

    Args:
        name: what it holds; read aloud.
        head: the columns' names.
        rows: as many cells each, the first of which names the row.
        texts: so many columns, from the left, hold words; the others figures.
    """

    def cell(tag: str, place: int, content: str, **more: str) -> Html:
        return element(tag, content, **more, **({} if place < texts else {"class_": "figure-cell"}))

    def row(cells: Sequence[str]) -> Html:
        first, *others = cells
        return element(
            "tr", cell("th", 0, first, scope="row"), *(cell("td", place, content) for place, content in enumerate(others, start=1))
        )

    top = element("tr", *(cell("th", place, text, scope="col") for place, text in enumerate(head)))
    whole = element("table", element("thead", top), element("tbody", *map(row, rows)))
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=name)


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return names and what they stand for, as a list."""
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs))


def folded(summary: str, *content: str) -> Html:
    """Return what is only shown on demand."""
    return element("details", element("summary", summary), *content)


def script_json(value: object) -> Html:
    """Return JSON that can stand inside a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Html(text)


def label(text: str, limit: int = 90) -> str:
    """Return text from outside as Plotly draws it: Plotly reads a little HTML, and a label has one line.

    Invisible marks keep writing from right to left to itself.
    """
    line = " ".join(text.translate(DIRECTIONS).split())
    short = line if len(line) <= limit else line[: limit - 1] + "…"
    turned = any(bidirectional(letter) in FROM_THE_RIGHT for letter in short)
    return f"\u2068{escape(short, quote=False)}\u2069" if turned else escape(short, quote=False)
