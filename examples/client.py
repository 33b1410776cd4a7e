"""Asks a running service: python examples/client.py http://127.0.0.1:8000 [KEY]."""

import json
import sys
from urllib.request import Request, urlopen

address, *key = sys.argv[1:]
headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key[0]}"} if key else {})


def ask(method: str, path: str, body: object = None) -> dict:
    """Send one request and return its answer."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(address + path, data, headers, method=method), timeout=30) as answer:
        return json.load(answer)


event = {"user_id": "anna", "item_id": "i0", "kind": "purchase", "event_id": "order-1"}
print(ask("POST", "/v1/events", {"events": [event]}))  # noqa: T201
for item in ask("POST", "/v1/recommendations", {"user_id": "anna", "k": 3})["items"]:
    print(f"{item['score']:6.2f}  {item['title']}  ({item['reason']})")  # noqa: T201
