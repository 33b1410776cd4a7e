"""A service over the small shop, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi.testclient import TestClient

from laserrec import Laser
from laserrec.serving.api import create_app
from laserrec.serving.messages import NewModel
from laserrec.serving.service import Service
from laserrec.serving.settings import ServingSettings
from laserrec.serving.sql_store import SqlStore


@contextmanager
def running(laser: Laser, address: str, source: str = "first", **settings: object) -> Iterator[TestClient]:
    """A client of a service that is ready; the service is `client.app.state.service`, and the model counts as loaded from `source`."""
    chosen = ServingSettings.gather({"store": address, "poll": 0.05, **settings}, environment={})
    loaded = iter([laser])
    service = Service(chosen, SqlStore.open(address), lambda source: next(loaded, None) or Laser.load(source), [NewModel(source=source)])
    with TestClient(create_app(service), base_url="http://localhost", raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client


def wait_until_ready(client: TestClient, seconds: float = 30) -> None:
    """Ask until the service is ready."""
    until = time.monotonic() + seconds
    while (answer := client.get("/readyz")).status_code != 200:
        assert time.monotonic() < until, answer.text
        time.sleep(0.01)
