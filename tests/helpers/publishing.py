"""Run by test_hub.py in processes of their own, since huggingface_hub reads where the hub is when it is imported.

python publishing.py publish FOLDER     load a model folder, push it twice, and say what it recommends
python publishing.py visit              load what was pushed, from the hub alone, and say what it recommends
python publishing.py offline            the same from the caches, without a hub
python publishing.py kept_out           be refused where a proxy lets nothing through
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from laserrec import Laser
from laserrec.errors import LaserrecError
from laserrec.llm.backbone import Backbone
from laserrec.llm.gguf import resolve_llm

HISTORIES = [["tent"], ["stove", "bag", "canoe"], ["never-bought"]]


def recommended(laser: Laser) -> list[list[tuple[str, str, str]]]:
    return [[(item.item_id, item.title, f"{item.score:.4f}") for item in row] for row in laser.recommend(HISTORIES, 100)]


def refused(ask: Callable[[], object]) -> list[str]:
    """The kind and the text of an error of ours; any other ends the process."""
    try:
        ask()
    except LaserrecError as error:
        return [type(error).__name__, str(error)]
    raise AssertionError("nothing was refused")


def publish(folder: str) -> dict[str, object]:
    laser = Laser.load(folder)
    strangers = refused(lambda: laser.push_to_hub("shop/laser", token="hf_of_somebody_else"))
    badly_named = refused(lambda: laser.push_to_hub("shop/laser/model"))
    laser.push_to_hub("shop/laser")
    laser.add_items([{"item_id": "canoe", "title": "Canoe"}])
    return {
        "strangers": strangers,
        "badly_named": badly_named,
        "address": laser.push_to_hub("shop/laser", private=False),
        "open": laser.push_to_hub("shop/open", private=False),
        "recommended": recommended(laser),
    }


def visit() -> dict[str, object]:
    private = refused(lambda: Laser.load("hf:shop/laser"))
    open_to_all = recommended(Laser.load("hf:shop/open"))
    os.environ["HF_TOKEN"] = os.environ["SHOP_TOKEN"]
    backbone = Backbone.load(resolve_llm("hf:shop/tiny-llama"), dtype="float32")
    return {
        "private": private,
        "open": open_to_all,
        "recommended": recommended(Laser.load("hf:shop/laser")),
        "tokens": backbone.tokenize("Tent"),
        "fingerprint": backbone.fingerprint(),
        "nowhere": refused(lambda: Laser.load("hf:shop/nowhere")),
        "not_a_name": refused(lambda: Laser.load("hf:shop/-no..name-")),
        "not_a_model": refused(lambda: Laser.load("hf:shop/tiny-llama")),
        "no_llm": refused(lambda: Backbone.load("shop/no-llm")),
    }


def offline() -> dict[str, object]:
    return {
        "recommended": recommended(Laser.load("hf:shop/laser")),
        "nowhere": refused(lambda: Laser.load("hf:shop/nowhere")),
        "no_llm": refused(lambda: Backbone.load("shop/no-llm")),
    }


def kept_out() -> dict[str, object]:
    return {"model": refused(lambda: Laser.load("hf:shop/laser")), "llm": refused(lambda: resolve_llm("hf:shop/tiny-llama"))}


if __name__ == "__main__":
    print(json.dumps({"publish": publish, "visit": visit, "offline": offline, "kept_out": kept_out}[sys.argv[1]](*sys.argv[2:])))  # noqa: T201
