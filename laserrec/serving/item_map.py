"""The item map as it is sent: columns of JSON, written in parts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from laserrec.laser.item_map import OTHER, ItemMap

AT_ONCE = 5000
"""Values that are written at a time: Python's encoder lets no other thread go on meanwhile, and the event loop must not wait for it."""


@lru_cache(maxsize=2)
def written(found: ItemMap) -> bytes:
    """Return a map as a `MapAnswer`; the same map is written once."""
    x, y = found.places.astype(float).round(4).T.tolist()
    attributes = ",".join(_attribute(name, kinds) for name, kinds in found.kinds.items())
    columns = {"item_ids": found.item_ids, "titles": found.titles, "x": x, "y": y}
    listed = ",".join(f'"{name}":{_column(values)}' for name, values in columns.items())
    return f'{{"catalogue":{found.catalogue},"explained":{json.dumps(found.explained)},{listed},"attributes":[{attributes}]}}'.encode()


def _attribute(name: str, kinds: Sequence[str]) -> str:
    counted = sorted(Counter(kinds).items(), key=lambda kind: (kind[0] == OTHER, -kind[1], kind[0]))
    places = {kind: place for place, (kind, _) in enumerate(counted)}
    return f'{{"name":{json.dumps(name)},"kinds":{json.dumps(list(places))},"codes":{_column([places[kind] for kind in kinds])}}}'


def _column(values: Sequence[object]) -> str:
    parts = (json.dumps(values[start : start + AT_ONCE], separators=(",", ":"))[1:-1] for start in range(0, len(values), AT_ONCE))
    return f"[{','.join(parts)}]"
