"""What a cluster is asked for, where there is none or Ray is not installed."""

from __future__ import annotations

import builtins
import subprocess
import sys
from types import ModuleType

import pytest

from laserrec.distributed.cluster import connected
from laserrec.distributed.train import shards_for
from laserrec.errors import ConfigError, MissingExtraError


def test_nothing_of_ray_is_imported_until_a_cluster_is_asked_for() -> None:
    """Importing everything that `laserrec train` imports, and the room itself, loads neither Ray nor what only Ray needs."""
    code = (
        "import sys, laserrec.cli.train, laserrec.cli.evaluate, laserrec.cli.recommend, laserrec.recommender, laserrec.runs.folder\n"
        "import laserrec.distributed.cluster, laserrec.distributed.processes, laserrec.distributed.train\n"
        "print(sorted({'ray', 'msgpack', 'tensorboardX'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "[]\n", ran.stderr


def test_without_the_extra_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_ray(name: str, *arguments: object) -> ModuleType:
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError(name)
        return imported(name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(MissingExtraError, match=r"pip install 'laserrec\[ray\]'"), connected("auto"):
        pass


def test_a_machine_of_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path_factory.mktemp("none")))
    with pytest.raises(ConfigError, match=r"Found no Ray cluster at 'auto' .*`ray start --head`"), connected("auto"):
        pass


@pytest.mark.parametrize(("workers", "shards"), [(1, 4), (2, 4), (3, 6), (4, 4), (5, 5), (8, 8)])
def test_shards_give_every_worker_the_same_share(workers: int, shards: int) -> None:
    assert shards_for(workers) == shards
