"""Every command and every line of Python of the how-to pages runs, in the order given, on a small shop and a small language model."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
FOLDER = Path(__file__).parents[2] / "docs" / "how-to"
ONE_AFTER_THE_OTHER = ("prepare-data", "train", "evaluate", "recommend", "change-items")
BY_THEMSELVES = ("coming-from-recbole", "coming-from-rectools")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of a page's blocks."""
    yield from re.findall(r"```(sh|python|toml)\n(.*?)```", (FOLDER / f"{page}.md").read_text(), flags=re.DOTALL)


@pytest.fixture
def fresh(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tables that the pages begin with, and a small model instead of the default one."""
    from laserrec.assets import ASSETS
    from laserrec.llm.gguf import converted_folder

    monkeypatch.setenv("LASERREC_CACHE", str(shop / "fresh"))
    shutil.copytree(shop / "llm", converted_folder(ASSETS[0]))
    ids = [f"B{place:03}" for place in range(1, 10)]
    users = ("anna", "ben", "carla", "dan", "eva", "finn", "gita", "hugo", "ida")
    rows = [f"{user},{ids[(at + step) % 9]},2026-03-{1 + step:02}T10:00:00" for at, user in enumerate(users) for step in range(7)]
    (shop / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    (shop / "items.csv").write_text("\n".join(["item_id,title,brand", *(f"{item},Tent {item},Fjord" for item in ids)]) + "\n")
    # Another shop, of which the pages say only where it lies.
    other = [f"{user},P{(at + step) % 8},2026-04-{1 + step:02}T10:00:00" for at, user in enumerate(users) for step in range(6)]
    (shop / "other.csv").write_text("\n".join(["user_id,item_id,timestamp", *other]) + "\n")
    (shop / "other-items.csv").write_text("\n".join(["item_id,title", *(f"P{place},Pen {place}" for place in range(8))]) + "\n")
    (shop / "atomic").mkdir()
    fields = [f"{user}\t{item}\t{1_700_000_000 + place}" for place, row in enumerate(rows) for user, item, _ in [row.split(",")]]
    (shop / "atomic" / "shop.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *fields]) + "\n")
    titles = ["item_id:token\ttitle:token_seq", *(f"{item}\tTent {item}" for item in ids)]
    (shop / "atomic" / "shop.item").write_text("\n".join(titles) + "\n")
    (shop / "rectools.csv").write_text("\n".join(["user_id,item_id,datetime,weight", *(f"{row},1" for row in rows)]) + "\n")
    (shop / "wishes.txt").write_text("warm socks\nhiking boots\n")
    (shop / "in-stock.txt").write_text("B001\nB008\nB009\n")
    (shop / "banned.txt").write_text("B009\n")
    return shop


def shortened(line: str) -> list[str]:
    """Return a command's words after the program, with fewer trials and epochs where it trains."""
    words = shlex.split(line.replace("--trials 20", "--trials 2"))[1:]
    few = [word for fit in ("fit_collaborative", "stage1") for word in ("--set", f"{fit}.epochs=2")]
    return [*words, *few] if words[0] in {"train", "baseline", "tune"} and "--resume" not in words else words


def run_pages(pages: tuple[str, ...], shop: Path, laserrec: Run) -> None:
    """Run pages one after the other, Python in one namespace."""
    names: dict[str, object] = {"__name__": "page"}
    for page in pages:
        for language, block in blocks(page):
            if language == "toml":
                (shop / "laser.toml").write_text(block)
            elif language == "python":
                exec(compile(block, f"{page}.md", "exec"), names)
            else:
                for line in block.splitlines():
                    code, out, err = laserrec(*shortened(line))
                    assert code == 0, f"{page}.md: {line}: {err}"
                    assert out.strip(), line


def test_the_pages_run_one_after_the_other(fresh: Path, laserrec: Run) -> None:
    assert laserrec("data", "prepare", "other.csv", "--items", "other-items.csv", "--out", "data/other")[0] == 0
    run_pages(ONE_AFTER_THE_OTHER, fresh, laserrec)
    assert (fresh / "figures" / "test.json").is_file()
    assert (fresh / "figures" / "shop.html").is_file()
    assert (fresh / "models" / "shop-with-new").is_dir()


@pytest.mark.parametrize("page", BY_THEMSELVES)
def test_a_page_runs_by_itself(page: str, fresh: Path, laserrec: Run) -> None:
    run_pages((page,), fresh, laserrec)


def test_no_page_is_left_out() -> None:
    """`run-a-service` runs with the first service, in tests/serving; `cluster` on one of two nodes, in tests/distributed."""
    assert {path.stem for path in FOLDER.glob("*.md")} == {*ONE_AFTER_THE_OTHER, *BY_THEMSELVES, "run-a-service", "cluster"}


def test_the_tables_shown_can_be_prepared(shop: Path, laserrec: Run) -> None:
    text = (FOLDER / "prepare-data.md").read_text()
    interactions, items = re.findall(r"```csv\n(.*?)```", text, flags=re.DOTALL)
    (shop / "interactions.csv").write_text(interactions)
    (shop / "items.csv").write_text(items)
    words = ["data", "prepare", "interactions.csv", "--items", "items.csv", "--out", "two", "--min-user", "1", "--min-item", "1"]
    assert laserrec(*words)[0] == 0
