"""A PostgreSQL server and a tiny trained model for the session, empty stores of both kinds, and a running service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import small_shop
from fastapi.testclient import TestClient
from postgres import Postgres
from shop_service import running

from laserrec import Laser
from laserrec.serving.sql_store import SqlStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server with nothing in it; skipped where PostgreSQL is not installed."""
    server = Postgres.found()
    if server is None:
        pytest.skip("no PostgreSQL below /usr/lib/postgresql and none on the PATH; apt-get install postgresql")
    server.start()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def store(address: str) -> Iterator[SqlStore]:
    """An empty store, once of each kind."""
    opened = SqlStore.open(address)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a trained model of the shop; the cache stays where its language model was read."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(folder / "cache"))
        Laser.fit(small_shop.dataset(), small_shop.config(small_shop.write_llm(folder / "llm"))).save(folder / "model")
        yield folder / "model"


@pytest.fixture
def laser(model_folder: Path) -> Laser:
    """A model to change at will."""
    return Laser.load(model_folder)


@pytest.fixture
def client(laser: Laser, tmp_path: Path) -> Iterator[TestClient]:
    """A client of a running service over an empty SQLite store, without keys."""
    with running(laser, f"sqlite:///{tmp_path / 'store.db'}") as found:
        yield found
