"""A shop and a language model of a few thousand weights, on disk, and one run trained on them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

USERS = ("anna", "ben", "carla", "dan", "eva", "finn", "gita", "hugo")
TITLES = (
    "Tent",
    "Camping stove",
    "Sleeping bag",
    "Head torch",
    "Rope [10 m]",
    "Water bottle",
    "Compass",
    "Map of the Alps",
    "Spade",
    "Kite",
)
SMALL = """
[prompt]
max_history = 4

[virtual]
prefix_length = 2

[mformer]
experts = 2
width = 16
heads = 2

[collaborative]
width = 8
max_history = 10
refits = ["id", "both"]

[fit_collaborative]
epochs = 2

[stage1]
epochs = 2

[stage2]
epochs = 1
"""


def write_llm(folder: Path) -> Path:
    """Write a Llama of two small layers that reads bytes."""
    import tiny
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    tiny.tokenizer().save_pretrained(folder)
    AutoModelForCausalLM.from_config(tiny.llm_config("llama-grouped"), dtype=torch.float32).save_pretrained(folder)
    return folder


def write_data(folder: Path, users: tuple[str, ...] = USERS) -> Path:
    """Prepare a dataset from two tables: user u takes seven items in a row, beginning with the u-th."""
    from laserrec.data.prepare import PrepareOptions, prepare

    source = folder.parent / f"{folder.name}-source"
    source.mkdir(parents=True)
    rows = [
        f"{user},item-{(start + step) % 10},{1_700_000_000 + 100 * start + step}" for start, user in enumerate(users) for step in range(7)
    ]
    (source / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    (source / "items.csv").write_text(
        "\n".join(["item_id,title", *(f'item-{place},"{title}"' for place, title in enumerate(TITLES))]) + "\n"
    )
    prepare(source, PrepareOptions(name="shop", min_user=1, min_item=1))[0].save(folder)
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, `llm`, `laser.toml`, an empty cache, and `run`, trained through the command line."""
    from laserrec.cli import app

    folder = tmp_path_factory.mktemp("world")
    write_data(folder / "data")
    write_llm(folder / "llm")
    (folder / "laser.toml").write_text(SMALL + f'\n[llm]\nmodel = "{folder / "llm"}"\ndtype = "float32"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(folder / "cache"))
        words = ["train", "--data", folder / "data", "--out", folder / "run", "--config", folder / "laser.toml"]
        app([str(word) for word in words], standalone_mode=False)
    return folder


@pytest.fixture
def shop(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `world` to change at will, the working directory."""
    folder = tmp_path / "shop"
    shutil.copytree(world, folder)
    monkeypatch.setenv("LASERREC_CACHE", str(world / "cache"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def elsewhere(shop: Path) -> Path:
    """Another catalogue's dataset, `elsewhere` in the shop's folder: three users, and the nine items that they take."""
    return write_data(shop / "elsewhere", ("ida", "jo", "kim"))


@pytest.fixture
def laserrec(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """A function that runs a command line in `shop` and returns its exit code, stdout and stderr."""
    from laserrec.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["laserrec", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return run
