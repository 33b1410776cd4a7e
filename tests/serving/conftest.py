"""A PostgreSQL server for the session, and empty stores of both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import Postgres

from laserrec.serving.sql_store import SqlStore


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server with nothing in it; skipped where PostgreSQL is not installed."""
    server = Postgres.found(tmp_path_factory.mktemp("postgres"))
    if server is None:
        pytest.skip("no PostgreSQL below /usr/lib/postgresql and none on the PATH; apt-get install postgresql")
    server.start()
    yield server
    server.stop()


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
