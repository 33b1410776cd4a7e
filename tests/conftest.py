"""What every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


# How long an example takes says more of what else the machine does than of the code.
hypothesis.settings.register_profile("laserrec", deadline=None)
hypothesis.settings.load_profile("laserrec")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from tests that are not about them: a machine that has one would choose it, and its last bits differ from run to run."""
    if "not gpu" in config.getoption("markexpr"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Return a function that gives a folder of real data by name, and skips the test where it is absent."""

    def find(name: str) -> Path:
        given = os.environ.get("LASERREC_TEST_DATA")
        folder = (Path(given) if given else REPOSITORY.parent / "shared" / "data") / name
        if not folder.is_dir():
            pytest.skip(f"no real data at {folder}; set LASERREC_TEST_DATA to a folder that holds {name}/")
        return folder

    return find
