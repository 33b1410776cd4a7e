"""The plain route as a service: transformers behind FastAPI, one pass a request over its whole prompt, then the item matrix.

`python -m benchmarks.speed.plain_service MODEL PORT THREADS`
"""

from __future__ import annotations

import sys
from threading import Lock
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

from benchmarks.speed.plain import PlainRoute
from laserrec.laser.folder import ModelFolder
from laserrec.llm.gguf import resolve_llm
from laserrec.llm.loading import load_backbone


def make_app(source: str) -> FastAPI:
    """Return a service of a model's language model, items and prompt."""
    stored = ModelFolder.read(source)
    config, matrix = stored.config, torch.nn.functional.normalize(stored.weights["item_states"].float(), dim=-1)
    arithmetic = str(load_backbone(config).dtype).removeprefix("torch.")  # float32 where the processor is slow at the model's own
    route = PlainRoute(str(resolve_llm(config.llm.model)), dtype=arithmetic, layers=config.llm.layers, batch_size=1)
    tokenizer = _tokenizer(str(resolve_llm(config.llm.model)))
    ids = [item.get("item_id", "") for item in stored.catalogue]
    lines = {item["item_id"]: f">> {item.get('title', item['item_id'])}\n" for item in stored.catalogue if item}
    virtual = torch.randn(1, config.virtual.prefix_length + 1, matrix.shape[1], generator=torch.Generator().manual_seed(0)) * 0.02
    turn = Lock()  # two passes at a time on two cores are slower than one after the other
    app = FastAPI()

    @app.post("/v1/recommendations")
    def recommend(body: dict[str, Any]) -> dict[str, Any]:
        history = body["items"][-config.prompt.max_history :]
        text = [tokenizer(lines[item], add_special_tokens=False)["input_ids"][: config.prompt.max_item_tokens] for item in history]
        with turn, torch.no_grad():
            state = route.read([text], virtual, "text_first")
            best = (state @ matrix.T).topk(body["k"]).indices[0].tolist()
        return {"items": [{"item_id": ids[place]} for place in best]}

    @app.get("/readyz")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    return app


def _tokenizer(folder: str) -> Any:  # noqa: ANN401 - transformers' own class
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    uvicorn.run(make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
