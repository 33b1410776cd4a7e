"""Answers over HTTP are those of the model: the test split of the shop, replayed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import small_shop
from shop_service import running

from laserrec import Laser
from laserrec.serving.store import Event


def test_the_test_split_replayed_gives_the_figures_of_evaluate(laser: Laser, address: str) -> None:
    data = small_shop.dataset()
    expected = laser.evaluate(data, "test")
    with running(laser, address) as client:
        store = client.app.state.service.core.store  # type: ignore[attr-defined]
        gains = []
        for user_id in data.user_ids:
            *before, target = data.history(user_id)
            store.add_events([Event(user_id, item_id, "interaction", place) for place, item_id in enumerate(before)])
            answer = client.post("/v1/recommendations", json={"user_id": user_id, "k": 10, "exclude_seen": False}).json()
            found = [item["item_id"] for item in answer["items"]]
            assert found == [item.item_id for item in laser.recommend([before], k=10, exclude_seen=False)[0]]
            gains.append(1 / math.log2(found.index(target) + 2) if target in found else 0.0)
    assert sum(gains) / len(gains) == pytest.approx(expected.metrics("full")["ndcg@10"], abs=1e-12)


def test_a_batch_of_all_users_gives_the_same_lists(laser: Laser, tmp_path: Path) -> None:
    data = small_shop.dataset()
    histories = [data.history(user_id, "test") for user_id in data.user_ids]
    expected = laser.recommend(histories, k=10)
    with running(laser, f"sqlite:///{tmp_path / 'a.db'}") as client:
        body = {"requests": [{"items": history} for history in histories]}
        answers = client.post("/v1/recommendations/batch", json=body).json()["answers"]
    assert [[item["item_id"] for item in one["items"]] for one in answers] == [[item.item_id for item in row] for row in expected]
