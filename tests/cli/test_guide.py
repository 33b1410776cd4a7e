"""Every command and every line of Python in docs/guide.md runs, in the order given, on a small shop and a small language model."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"```(sh|python|toml)\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture
def fresh(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two tables that the guide begins with, and a small model in the place of the default one."""
    from laserrec.assets import ASSETS
    from laserrec.llm.gguf import converted_folder

    monkeypatch.setenv("LASERREC_CACHE", str(shop / "fresh"))
    shutil.copytree(shop / "llm", converted_folder(ASSETS[0]))
    ids = [f"B{place:03}" for place in range(1, 10)]
    users = ("anna", "ben", "carla", "dan", "eva", "finn", "gita", "hugo", "ida")
    rows = [f"{user},{ids[(at + step) % 9]},2026-03-{1 + step:02}T10:00:00" for at, user in enumerate(users) for step in range(7)]
    (shop / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    (shop / "items.csv").write_text("\n".join(["item_id,title,brand", *(f"{item},Tent {item},Fjord" for item in ids)]) + "\n")
    # Another shop, of which the guide says only where it lies.
    other = [f"{user},P{(at + step) % 8},2026-04-{1 + step:02}T10:00:00" for at, user in enumerate(users) for step in range(6)]
    (shop / "other.csv").write_text("\n".join(["user_id,item_id,timestamp", *other]) + "\n")
    (shop / "other-items.csv").write_text("\n".join(["item_id,title", *(f"P{place},Pen {place}" for place in range(8))]) + "\n")
    (shop / "wishes.txt").write_text("warm socks\nhiking boots\n")
    (shop / "in-stock.txt").write_text("B001\nB008\nB009\n")
    (shop / "banned.txt").write_text("B009\n")
    return shop


def test_the_guide_runs(fresh: Path, laserrec: Run) -> None:
    names: dict[str, object] = {"__name__": "guide"}
    assert laserrec("data", "prepare", "other.csv", "--items", "other-items.csv", "--out", "data/other")[0] == 0
    for language, block in BLOCKS:
        if language == "toml":
            (fresh / "laser.toml").write_text(block)
        elif language == "python":
            exec(compile(block, "guide.md", "exec"), names)
        else:
            for line in block.splitlines():
                code, out, err = laserrec(*shlex.split(line.replace("--trials 20", "--trials 2"))[1:])
                assert code == 0, f"{line}: {err}"
                assert out.strip(), line
    assert (fresh / "figures" / "test.json").is_file()
    assert (fresh / "figures" / "shop.html").is_file()
    assert (fresh / "models" / "shop-with-new").is_dir()


def test_the_tables_shown_can_be_prepared(shop: Path, laserrec: Run) -> None:
    interactions, items = re.findall(r"```csv\n(.*?)```", GUIDE, flags=re.DOTALL)
    (shop / "interactions.csv").write_text(interactions)
    (shop / "items.csv").write_text(items)
    words = ["data", "prepare", "interactions.csv", "--items", "items.csv", "--out", "two", "--min-user", "1", "--min-item", "1"]
    assert laserrec(*words)[0] == 0
