"""What a cluster is asked for, where there is none or Ray is not installed."""

from __future__ import annotations

import builtins
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from laserrec.distributed.cluster import connected, most_cores
from laserrec.distributed.train import REFUSED, _work, shards_for
from laserrec.errors import CheckpointError, ConfigError, MissingExtraError
from laserrec.system.files import read_json

EXAMPLES = Path(__file__).parents[2] / "examples"


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


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "host:port"])
def test_an_address_without_a_cluster(address: str) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with pytest.raises(ConfigError, match=f"Found no Ray cluster at '{address}' .* Start Ray there"), connected(address):
        pass


@pytest.mark.parametrize(
    ("nodes", "workers", "gpu", "cores"),
    [
        ([(64, 0), (4, 2)], 2, True, 2),  # both beside the two GPUs
        ([(64, 0), (4, 2)], 2, False, 32),
        ([(64, 0), (4, 2)], 3, True, 0),
        ([(8, 1), (6, 1)], 2, True, 6),
        ([(0, 0), (4, 0), (4, 0)], 3, False, 2),
        ([(1, 4)], 2, True, 0),  # GPUs without cores
        ([], 1, False, 0),
    ],
)
def test_a_worker_has_its_cores_and_its_gpu_on_one_machine(nodes: list[tuple[int, int]], workers: int, gpu: bool, cores: int) -> None:
    assert most_cores(nodes, workers, gpu=gpu) == cores


def test_a_token_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    code = "from laserrec.distributed.cluster import connected\nwith connected('127.0.0.1:%s'): pass"
    with socket.create_server(("127.0.0.1", 0)) as server:  # the token is looked for before anything is sent
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
        command = [sys.executable, "-c", code % server.getsockname()[1]]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "ConfigError: Found no Ray cluster" in ran.stderr
    assert "(AuthenticationError)" in ran.stderr
    assert "RAY_AUTH_TOKEN_PATH here, too" in ran.stderr


def test_an_error_that_would_come_again_is_left_for_the_driver(tmp_path: Path) -> None:
    """Ray starts workers again whatever they died of; those that follow see that there is nothing to try."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    given = {"run": str(tmp_path / "none"), "config": {}, "data": "", "threads": 1, "place": str(tmp_path)}
    with pytest.raises(CheckpointError):
        _work(given)
    assert read_json(tmp_path / REFUSED)["message"] == f"{tmp_path / 'none'} does not exist. Give the folder that a training wrote."
    _work(given)


@pytest.mark.parametrize(("workers", "shards"), [(1, 4), (2, 4), (3, 6), (4, 4), (5, 5), (8, 8)])
def test_shards_give_every_worker_the_same_share(workers: int, shards: int) -> None:
    assert shards_for(workers) == shards


def test_the_examples_are_what_ray_and_kuberay_read() -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = yaml.safe_load((EXAMPLES / "ray-cluster.yaml").read_text())
    starts = [command for who in ("head", "worker") for command in cluster[f"{who}_start_ray_commands"] if "ray start" in command]
    assert [command.split()[:2] for command in starts] == [["RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN_PATH=/shared/ray-token"]] * 2
    validate_config(prepare_config(cluster))  # against Ray's own schema
    job = yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text())
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    assert (job["apiVersion"], job["kind"], len(groups)) == ("ray.io/v1", "RayJob", 2)
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for pod in (group["template"]["spec"] for group in groups):
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]} <= volumes
    assert f"--workers {groups[1]['replicas']}" in job["spec"]["entrypoint"]
