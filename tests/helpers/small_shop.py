"""A shop of twelve items, a language model of a few thousand weights on disk, and settings that train on them in a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import tiny
import torch
from transformers import AutoModelForCausalLM

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.splits import SplitInfo
from laserrec.data.tables import SPLIT_TYPE

ITEMS = (
    ("tent", "Tent", "Alp"),
    ("stove", "Camping stove", None),
    ("bag", "Sleeping bag", "Alp"),
    ("torch", "Head torch", None),
    ("rope", "Rope [10 m]", "Alp"),
    ("bottle", "Water bottle", None),
    ("compass", "Compass", None),
    ("map", "Map of the Alps", None),
    ("spade", "Spade", "Dig"),
    ("kite", "Kite", None),
    ("untitled", None, "Dig"),
    ("never-bought", "Sledge", "Alp"),
)
IDS = [item_id for item_id, _, _ in ITEMS]
RING = IDS[:11]
SMALL: dict[str, dict[str, Any]] = {
    "prompt": {"max_history": 4},
    "virtual": {"prefix_length": 2},
    "mformer": {"experts": 2, "width": 16, "heads": 2},
    "collaborative": {"width": 8, "max_history": 10, "dropout": 0.0, "refits": ["id", "both"]},
    "fit_collaborative": {"epochs": 2, "batch_size": 4},
    "stage1": {"epochs": 2, "batch_size": 4, "warmup_steps": 0},
    "stage2": {"epochs": 1, "batch_size": 4, "warmup_steps": 0},
}


def after(start: int, count: int) -> list[str]:
    """`count` items of the ring in a row: what the users of this shop do."""
    return [RING[(start + step) % len(RING)] for step in range(count)]


def dataset(users: int = 11) -> Dataset:
    """User u takes seven items in a row, from the u-th: five to train on, one to validate, one to test. Nobody takes `never-bought`."""
    rows = [
        (f"user-{user:02}", item_id, 100 * user + step, "train" if step < 5 else ("valid", "test")[step - 5])
        for user in range(users)
        for step, item_id in enumerate(after(user, 7))
    ]
    events = pl.DataFrame(
        rows, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": SPLIT_TYPE}, orient="row"
    )
    items = pl.DataFrame(list(ITEMS), schema={"item_id": pl.String, "title": pl.String, "brand": pl.String}, orient="row")
    return Dataset.build("shop", items, events, SplitInfo("leave-one-out", {}))


def write_llm(folder: Path, seed: int = 0) -> Path:
    """Write a Llama of two small layers that reads bytes."""
    torch.manual_seed(seed)
    tiny.tokenizer().save_pretrained(folder)
    AutoModelForCausalLM.from_config(tiny.llm_config("llama-grouped"), dtype=torch.float32).save_pretrained(folder)
    return folder


def config(llm: Path | str, preset: str = "default", **sections: Mapping[str, Any]) -> LaserConfig:
    """Settings small enough for a test."""
    merged = {name: {**SMALL.get(name, {}), **sections.get(name, {})} for name in SMALL.keys() | sections.keys()}
    return LaserConfig.build(preset, {**merged, "llm": {"model": str(llm), "dtype": "float32"}}, "test")  # type: ignore[arg-type]
