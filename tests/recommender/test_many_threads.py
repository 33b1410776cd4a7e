"""Requests of many threads while the catalogue changes and is saved: each is answered as if it were alone, from one of the catalogues."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from small_shop import IDS, after

from laserrec import Laser
from laserrec.config import LaserConfig
from laserrec.errors import UnknownIdError

HISTORIES = [after(place, 1 + place % 4) for place in range(5)] + [["never-bought"], ["canoe"], ["kite", "tent"]]
TEXTS = [["Sailing boat", "Anchor, 3 kg"], ["Kite"]]
Answer = dict[str, float]


def changes(laser: Laser) -> list[Callable[[], None]]:
    """Make every state of the catalogue differ from every other one."""
    return [
        lambda: laser.add_items([{"item_id": "canoe", "title": "Canoe"}, {"item_id": "paddle", "title": "Paddle"}]),
        lambda: laser.update_items([{"item_id": "canoe", "title": "Kayak, two seats"}, {"item_id": "map", "title": "Chart"}]),
        lambda: laser.remove_items(["kite"]),
        lambda: laser.add_items([{"item_id": f"box {place}", "title": f"Box of {place} pens"} for place in range(20)]),
        lambda: laser.remove_items(["canoe", "box 3", "rope"]),
        lambda: setattr(laser, "cold_start_bonus", 2.5),
        lambda: laser.update_items([{"item_id": "tent", "title": "Marquee"}]),
    ]


def requests(laser: Laser) -> list[Callable[[], object]]:
    ids = [lambda history=history: table(laser.recommend([history], k=100)) for history in HISTORIES]
    texts = [lambda text=text: table(laser.recommend_texts([text], k=100)) for text in TEXTS]
    return [*ids, *texts, lambda: table([laser.similar_items("map", 100)]), lambda: laser.catalogue]


def table(found: list[list[Any]]) -> Answer:
    return {item.item_id: item.score for item in found[0]}


def answer(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except UnknownIdError as error:
        return str(error)


def same(found: object, expected: object) -> bool:
    return found == (pytest.approx(expected, abs=1e-4) if isinstance(expected, dict) else expected)


@pytest.mark.parametrize("memory", [None, 3e-5], ids=["all in memory", "a few texts in memory"])
def test_every_answer_is_that_of_one_catalogue(saved: Path, tmp_path: Path, memory: float | None) -> None:
    config = LaserConfig.load(saved / "config.json")
    if memory is not None:
        saved = copied(saved, tmp_path, config.override([f"runtime.text_memory={memory}"]))
    alone, shared = Laser.load(saved), Laser.load(saved)
    asked = requests(alone)
    states = [[answer(ask) for ask in asked]]
    for change in changes(alone):
        change()
        states.append([answer(ask) for ask in asked])
    assert all(one != other for one, other in itertools.pairwise(states))

    made, begun = 0, 0
    over = Event()

    def go_on(first: int) -> list[tuple[int, int, int, object]]:
        found, asks = [], requests(shared)
        for number in itertools.cycle(range(len(asks))):
            place, before = (number + first) % len(asks), made
            got = answer(asks[place])
            found.append((place, before, begun, got))
            if over.is_set() and len(found) >= len(asks):
                return found
        raise AssertionError

    def save(number: int) -> tuple[int, int]:
        first = made  # saves stand in line: this one may begin several changes after it was asked for
        shared.save(tmp_path / f"model-{number}")
        return first, begun

    with ThreadPoolExecutor(9) as threads:
        readers = [threads.submit(go_on, first) for first in range(8)]
        saves = []
        try:
            for number, change in enumerate(changes(shared)):
                begun = number + 1
                saves.append(threads.submit(save, number))
                change()
                made = number + 1
                wait(readers, timeout=0.1)
        finally:
            over.set()
        answers = [each for reader in readers for each in reader.result()]
        spans = [each.result() for each in saves]
    assert len(answers) >= 8 * len(asked)
    for place, first, last, got in answers:
        assert any(same(got, state[place]) for state in states[first : last + 1]), (place, first, last, got)
    for number, (first, last) in enumerate(spans):
        catalogue = Laser.load(tmp_path / f"model-{number}").catalogue
        assert any(catalogue == state[-1] for state in states[first : last + 1]), (number, first, last, catalogue)


def copied(saved: Path, folder: Path, config: LaserConfig) -> Path:
    import shutil

    place = Path(shutil.copytree(saved, folder / "small"))
    config.save(place / "config.json")
    return place


def test_who_asks_during_a_change_does_not_wait(laser: Laser, tmp_path: Path) -> None:
    """In the middle of a change everything is asked for by another thread, whose answers come first, from the catalogue before it."""
    before = (laser.catalogue, laser.recommend([["tent"]]), laser.recommend_texts([["Boat"]]))
    answers: list[object] = []

    def ask(*_: object) -> None:
        hook.remove()
        with ThreadPoolExecutor(1) as thread:
            answers.append(
                thread.submit(lambda: (laser.catalogue, laser.recommend([["tent"]]), laser.recommend_texts([["Boat"]]))).result(30)
            )
            thread.submit(laser.save, tmp_path / "model").result(30)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(ask)
    laser.add_items([{"item_id": "canoe", "title": "Canoe"}])
    assert answers == [before]
    assert laser.item_ids == [*IDS, "canoe"]
    assert Laser.load(tmp_path / "model").item_ids == IDS


def test_adding_leaves_the_order_among_the_others(saved: Path) -> None:
    """300 items, then 541 more: what stands in 100 lists of the first is in the same order, with the same scores."""
    laser = Laser.load(saved)
    draws = torch.Generator().manual_seed(0)
    words = ["tent", "stove", "bag", "rope", "bottle", "map", "spade", "kite", "sledge", "canoe", "oar", "blue", "red", "steel", "oak"]

    def items(first: int, count: int) -> list[dict[str, str]]:
        picks = torch.randint(len(words), (count, 3), generator=draws).tolist()
        return [
            {"item_id": f"i{first + place}", "title": " ".join([*(words[pick] for pick in row), str(first + place)])}
            for place, row in enumerate(picks)
        ]

    laser.add_items(items(0, 300 - len(IDS)))
    old = laser.item_ids
    histories = [[old[pick] for pick in row] for row in torch.randint(len(old), (100, 6), generator=draws).tolist()]
    before = laser.recommend(histories, k=1000)
    laser.add_items(items(300, 541))
    after_all = laser.recommend(histories, k=1000)
    assert [len(row) for row in after_all] == [len(row) + 541 for row in before]
    known = set(old)
    for found, expected in zip(after_all, before, strict=True):
        kept = [item for item in found if item.item_id in known]
        assert [item.item_id for item in kept] == [item.item_id for item in expected]
        assert [item.score for item in kept] == pytest.approx([item.score for item in expected], abs=1e-6)
    # The new ones are neighbours of the old ones: a list of all holds both.
    assert any(item.item_id not in known for item in after_all[0][:50])
