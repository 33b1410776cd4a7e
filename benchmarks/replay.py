"""Replay a run's test cases over HTTP, and hold the figures against those of `laserrec evaluate`.

`python benchmarks/replay.py RUN` starts `laserrec serve RUN` over an empty SQLite database, asks for each test history's ten best
items, and prints N@10 and R@10 of the answers beside those of the ranks that the run kept. It ends with 1 where they differ.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.speed.http_client import Client
from benchmarks.speed.http_load import Process, free_port
from laserrec.evaluation.metrics import Evaluation
from laserrec.runs.folder import RunFolder

AT_ONCE = 64
"""Histories of one request."""


async def replay(process: Process, histories: list[list[str]]) -> list[list[str]]:
    """Return the ten best items after each history, as the service answers."""
    client = Client(process.port)
    await process.ready(client)
    found = []
    for start in range(0, len(histories), AT_ONCE):
        requests = [{"items": history, "k": 10, "exclude_seen": False} for history in histories[start : start + AT_ONCE]]
        reply = await client.ask("POST", "/v1/recommendations/batch", {"requests": requests})
        assert reply.status == 200, reply
        found += [[item["item_id"] for item in answer["items"]] for answer in reply.body["answers"]]
    client.close()
    return found


def main() -> None:
    """Replay a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="where the dataset lies, when it was moved")
    parser.add_argument("--cases", type=int, help="so many of the cases alone, the first ones")
    options = parser.parse_args()
    run = RunFolder.open(options.run)
    data, kept = run.dataset(options.data), Evaluation.load(run.ranks("test"))
    cases = range(min(options.cases or len(kept), len(kept)))
    histories = [data.history(data.user_ids[kept.users[case]], "test") for case in cases]
    targets = [data.item_ids[kept.targets[case]] for case in cases]
    with free_port() as port, tempfile.TemporaryDirectory() as folder:
        words = ["laserrec", "serve", str(options.run), "--port", str(port), "--store", f"sqlite:///{folder}/store.db", "--threads", "1"]
        # The figures are about answers, so none is refused for coming late.
        words += [word for setting in ("history=100000", "deadline=600") for word in ("--set", setting)]
        process = Process(words, port)
        try:
            lists = asyncio.run(replay(process, histories))
        finally:
            process.end()
    ranks = [found.index(target) + 1 if target in found else 0 for found, target in zip(lists, targets, strict=True)]
    over_http = {
        "ndcg@10": float(np.mean([1 / np.log2(rank + 1) if rank else 0.0 for rank in ranks])),
        "recall@10": float(np.mean([bool(rank) for rank in ranks])),
    }
    different = sum(rank != (own if own <= 10 else 0) for rank, own in zip(ranks, kept.ranks["full"][list(cases)].tolist(), strict=True))
    for name, value in over_http.items():
        sys.stdout.write(f"{name}: {value!r} over HTTP, {float(kept.per_case(name)[list(cases)].mean())!r} by laserrec evaluate\n")
    sys.stdout.write(f"{len(ranks)} cases, {different} with another rank\n")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
