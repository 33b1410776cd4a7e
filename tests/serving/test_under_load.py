"""What stays true while many ask and write at once."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from served import Served
from small_shop import IDS, after

from laserrec import Laser


def test_answers_under_load_are_those_of_the_model_and_the_loop_stays_free(model_folder: Path, tmp_path: Path) -> None:
    histories = [after(start, length) for start in range(11) for length in (2, 5, 9)]
    expected = [[item.item_id for item in row] for row in Laser.load(model_folder).recommend(histories, k=6, only=IDS)]
    served = Served(model_folder, f"sqlite:///{tmp_path / 'store.db'}", tmp_path, {"embeddings": 5})  # so that nearly each is read anew
    served.start()
    ended = threading.Event()
    waits: list[float] = []

    def look() -> None:
        while not ended.is_set():
            begun = time.monotonic()
            assert served.ask("GET", "/livez") == (200, {"live": True})
            waits.append(time.monotonic() - begun)
            time.sleep(0.02)

    def ask(place: int) -> list[str]:
        body = {"items": histories[place], "k": 6, "only": IDS}
        return [item["item_id"] for item in served.ask("POST", "/v1/recommendations", body)[1]["items"]]

    def write(place: int) -> int:
        item = {"attributes": {"title": f"Thing {place}"}}
        events = [{"user_id": f"u{place}", "item_id": "tent", "event_id": str(place)}]
        return served.ask("PUT", f"/v1/items/n{place % 5}", item)[0] + served.ask("POST", "/v1/events", {"events": events})[0]

    order = [place for place in range(len(histories)) for _ in range(4)]
    random.Random(1).shuffle(order)
    looker = threading.Thread(target=look)
    looker.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            writes = [pool.submit(write, place) for place in range(20)]
            found = list(pool.map(ask, order))
            assert {one.result() for one in writes} == {400}
    finally:
        ended.set()
        looker.join(20)
        served.kill()
    assert found == [expected[place] for place in order]
    # The median, since other programs share the cores of whoever runs the tests.
    assert sorted(waits)[len(waits) // 2] < 0.05
