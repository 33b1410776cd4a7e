"""Calls from Python with values of other types: refused with what was received, or answered as they are meant, never an empty answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import pytest
from small_shop import after

from laserrec import Dataset, Laser
from laserrec.errors import CheckpointError, ConfigError, DataError, LaserrecError, UnknownIdError

HISTORY = after(2, 4)


@pytest.mark.parametrize("k", [3.0, True, "3", None, 0, -1, 2.5, [3], float("nan")])
def test_k_is_a_whole_number_from_1(trained: Laser, k: Any) -> None:  # noqa: ANN401
    for ask in (trained.recommend, trained.recommend_texts):
        with pytest.raises(DataError, match=r"Received k = .*; allowed is a whole number from 1"):
            ask([HISTORY], k)


@pytest.mark.parametrize(
    "histories",
    [
        HISTORY,
        "tent",
        b"tent",
        None,
        5,
        {"tent"},
        {"tent": 1},
        [{"tent", "rope"}],
        [None],
        [5],
        [[5]],
        [["tent", None]],
        [[["tent"]]],
        [b"tent"],
    ],
)
def test_histories_are_lists_of_lists_of_strings(trained: Laser, histories: Any) -> None:  # noqa: ANN401
    for ask in (trained.recommend, trained.recommend_texts, trained.experts):
        with pytest.raises(DataError, match=r"Received .*expected is a list of histories"):
            ask(histories)


def test_whatever_can_be_listed_in_order_is_answered(trained: Laser) -> None:
    expected = trained.recommend([HISTORY, HISTORY[:2]], 3)
    assert trained.recommend((history for history in (HISTORY, HISTORY[:2])), 3) == expected
    assert trained.recommend([iter(HISTORY), tuple(HISTORY[:2])], np.int64(3)) == expected  # type: ignore[arg-type]
    assert trained.recommend([np.array(HISTORY), np.array(HISTORY[:2])], 3) == expected  # type: ignore[list-item]
    assert trained.recommend_texts((text for text in [["Tent"]]), 2) == trained.recommend_texts([["Tent"]], 2)
    assert trained.experts(history for history in [HISTORY]) == trained.experts([HISTORY])


@pytest.mark.parametrize("ids", ["tent", 5, [5], [["tent"]], b"tent"])
@pytest.mark.parametrize("name", ["only", "without"])
def test_ids_to_choose_from(trained: Laser, name: str, ids: Any) -> None:  # noqa: ANN401
    with pytest.raises(DataError, match=f"Received {name} = "):
        trained.recommend([HISTORY], 3, **{name: ids})


@pytest.mark.parametrize("items", [None, 5, "lamp", {"item_id": "lamp", "title": "Lamp"}, ["lamp"], [None], [{"item_id": 5}]])
def test_new_items(laser: Laser, items: Any) -> None:  # noqa: ANN401
    with pytest.raises(DataError, match=r"Received the items|Item 1"):
        laser.add_items(items)
    assert laser.item_ids == laser.item_ids[:12]


def test_new_items_from_a_generator(laser: Laser) -> None:
    laser.add_items({"item_id": f"lamp-{number}", "title": f"Lamp {number}"} for number in range(2))
    assert laser.title("lamp-1") == "Lamp 1"


@pytest.mark.parametrize("item_id", [5, None, ["tent"], "tents"])
def test_ids(trained: Laser, data: Dataset, item_id: Any) -> None:  # noqa: ANN401
    for ask in (trained.title, data.item_index, data.user_index, data.history):
        with pytest.raises(UnknownIdError):
            ask(item_id)


def test_parts(trained: Laser, data: Dataset) -> None:
    with pytest.raises(DataError, match="Received the split 'tset'; allowed are 'valid' and 'test'"):
        trained.evaluate(data, "tset")  # type: ignore[arg-type]


def test_messages_stay_short_and_hold_no_control_characters(trained: Laser) -> None:
    nested: list[Any] = []
    for _ in range(50_000):
        nested = [nested]
    for histories in ([["\x1b[2J" + "x" * 10**6]], [["x"] * 10**5 + [None]], [nested], [[{"a": "b" * 10**6}]]):
        with pytest.raises(LaserrecError) as caught:
            trained.recommend(histories)
        assert len(str(caught.value)) < 1000
        assert "\x1b" not in str(caught.value)


def test_an_unknown_id_among_long_ones_takes_no_time() -> None:
    known = [f"https://shop.example/{'x' * 300}/{number:06}/{'y' * 300}" for number in range(20_000)]
    began = time.perf_counter()
    message = str(UnknownIdError("item", known[7].replace("x", "z"), known))
    assert time.perf_counter() - began < 2
    assert len(message) < 1000


def ask(call: Callable[[], object], answers: Queue[str]) -> None:
    try:
        answers.put(str(call()))
    except LaserrecError as error:
        answers.put(f"{type(error).__name__}: {error}")


CALLS: dict[str, Callable[[Laser], object]] = {
    "recommend": lambda laser: laser.recommend([HISTORY], 3),
    "add": lambda laser: laser.add_items([{"item_id": "canoe", "title": "Canoe"}]),
    "update": lambda laser: laser.update_items([{"item_id": "tent", "title": "Marquee"}]),
    "remove": lambda laser: laser.remove_items(["tent"]),
    "cold_start_bonus": lambda laser: setattr(laser, "cold_start_bonus", 1.0),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_fork_gets_an_error_at_once(trained: Laser, name: str) -> None:
    """Even while another thread changes the catalogue, whose lock nobody in the fork would ever give back."""
    trained.recommend([HISTORY], 3)  # so that torch has threads
    context = get_context("fork")
    answers: Queue[str] = context.Queue()
    with trained._changing:
        fork = context.Process(target=ask, args=(partial(CALLS[name], trained), answers))
        fork.start()
    try:
        assert answers.get(timeout=20).startswith("ForkedProcessError: This model was loaded in process")
    finally:
        fork.kill()
        fork.join()


@pytest.mark.parametrize("place", [None, 5, b"model", ["model"], "a\0b"])
def test_places(trained: Laser, data: Dataset, place: Any) -> None:  # noqa: ANN401
    for call in (Laser.load, trained.save):
        with pytest.raises(CheckpointError, match="as the folder of a model; expected is a path"):
            call(place)
    for call in (Dataset.load, data.save):
        with pytest.raises(DataError, match="as the folder of a dataset; expected is a path"):
            call(place)


def test_training(data: Dataset) -> None:
    with pytest.raises(DataError, match=r"Received 'data/shop' to train on; expected is a Dataset"):
        Laser.fit("data/shop")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Received the settings \{'seed': 1\}; expected is a LaserConfig"):
        Laser.fit(data, {"seed": 1})  # type: ignore[arg-type]
