"""One shop, one language model and one trained Laser, which a folder's conftest imports; no test changes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small_shop

from laserrec import Dataset, Laser


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache in these tests, empty at first."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(cache))


@pytest.fixture(scope="session")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the language model."""
    return small_shop.write_llm(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="session")
def data() -> Dataset:
    """The shop."""
    return small_shop.dataset()


@pytest.fixture(scope="session")
def trained(cache: Path, llm: Path, data: Dataset) -> Laser:
    """A Laser trained without a session; tests only ask it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(cache))
        return Laser.fit(data, small_shop.config(llm))


@pytest.fixture(scope="session")
def saved(trained: Laser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model folder; tests only read it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    trained.save(folder)
    return folder


@pytest.fixture
def laser(saved: Path) -> Laser:
    """A Laser of one's own, to change at will."""
    return Laser.load(saved)


@pytest.fixture
def model_folder(saved: Path, tmp_path: Path) -> Path:
    """A model folder of one's own, to damage at will."""
    return Path(shutil.copytree(saved, tmp_path / "model"))
