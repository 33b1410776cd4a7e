"""Build HTML in which foreign text stays text: every string is escaped unless it is `Html` already.

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
    """Return an element; content that is not `Html` is escaped. `class_` becomes `class`, and `aria_label` becomes `aria-label`.

    Args:
        tag: its name.
        content: what stands inside.
        attributes: such as `class_="wide"` and `aria_label="…"`.
    """
    named = "".join(f' {name.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{named}>" + ("" if tag in VOID else f"{joined(content)}</{tag}>"))


def joined(parts: Iterable[str]) -> Html:
    """Join parts; those that are not `Html` are escaped."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def _escaped(text: str) -> str:
    return escape(text.translate(DIRECTIONS))


def title(text: str) -> Html:
    """Return the title or id of an item or user, isolated so that its direction of writing does not affect the text behind it."""
    return element("bdi", text)


def table(name: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> Html:
    """Return a table that scrolls sideways where it is too wide, by the keyboard too.

    Args:
        name: of the table; screen readers announce it.
        head: the columns' names.
        rows: as many cells each, the first of which names the row.
        texts: number of columns, from the left, that hold words; the others hold figures.
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
    """Return names and values as a description list."""
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs))


def folded(summary: str, *content: str) -> Html:
    """Return content that is shown on demand."""
    return element("details", element("summary", summary), *content)


def script_json(value: object) -> Html:
    """Return JSON that can stand inside a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Html(text)


def label(text: str, limit: int = 90) -> str:
    """Return foreign text as a label for Plotly, which interprets a little HTML: escaped, on one line, cut to `limit`.

    Invisible marks keep writing from right to left to itself.
    """
    line = " ".join(text.translate(DIRECTIONS).split())
    short = line if len(line) <= limit else line[: limit - 1] + "…"
    turned = any(bidirectional(letter) in FROM_THE_RIGHT for letter in short)
    return f"\u2068{escape(short, quote=False)}\u2069" if turned else escape(short, quote=False)
