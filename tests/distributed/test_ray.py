"""Training on a real Ray cluster of two nodes: a worker is killed, then the driver, then one worker goes on from what two left.

One run, told in order, for starting processes is what takes time here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import small_shop
import torch
from safetensors.torch import load_file

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.distributed.cluster import Worker, connected, share_of
from laserrec.distributed.evaluate import evaluate_on_cluster
from laserrec.distributed.parts import PartMaker, make_parts
from laserrec.distributed.train import shards_for, train_on_cluster
from laserrec.distributed.users import Request, _Recommending, recommend_on_cluster
from laserrec.errors import AssetError, CheckpointError, ConfigError, LaserrecError, UnknownIdError
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation
from laserrec.recommender import Laser
from laserrec.runs.batch import recommend_users
from laserrec.runs.folder import RunFolder, train_run
from laserrec.system.files import alone as alone_with
from laserrec.system.files import read_tensors

pytest.importorskip("ray", reason="the extra ray is not installed")
PATIENCE = 200.0
REPOSITORY = Path(__file__).parents[2]
FITS = ("collaborative", "stage1", "stage2", "sasrec")


class Shop:
    """A folder with `data`, `llm` and `laser.json`, the address of a cluster, and processes in its environment."""

    def __init__(self, folder: Path, environment: dict[str, str], address: str) -> None:
        self.folder, self.environment, self.address = folder, environment, address

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start a command line."""
        command = [sys.executable, "-P", "-m", "laserrec", *map(str, words)]
        how = {"cwd": self.folder, "env": self.environment, "text": True, "start_new_session": True}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)

    def page(self) -> list[list[str]]:
        """Return the commands of the how-to page, in its order, with this folder for the one that its machines share."""
        text = (REPOSITORY / "docs" / "how-to" / "cluster.md").read_text()
        blocks = "".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).replace("/shared", str(self.folder))
        return [shlex.split(line)[1:] for line in blocks.splitlines()]

    def workers(self, kind: str = "RayTrainWorker") -> set[int]:
        """Return the process ids of the cluster's workers of a kind."""
        mark = f"LASERREC_CACHE={self.environment['LASERREC_CACHE']}".encode()
        found = set()
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if kind.encode() in (place / "cmdline").read_bytes() and mark in (place / "environ").read_bytes():
                    found.add(int(place.name))
            except OSError:  # it has just ended
                continue
        return found

    def steps(self, fit: str) -> int:
        """Return the steps in a fit's checkpoint while it is under way, else 0."""
        try:
            progress = read_tensors(self.folder / "runs" / "shop" / fit / "checkpoint.safetensors")[1]["progress"]
        except CheckpointError:
            return 0
        return 0 if progress["finished"] else int(progress["step"])


def wait(until: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("cluster")
    small_shop.write_llm(folder / "llm")
    small_shop.dataset().save(folder / "data" / "shop")
    config = small_shop.config(
        folder / "llm",
        collaborative={"dropout": 0.2, "refits": ["id"]},
        fit_collaborative={"epochs": 16, "patience": 16, "batch_size": 4},
        stage1={"epochs": 6, "patience": 6, "batch_size": 4, "warmup_steps": 0},
        runtime={"checkpoint_seconds": 0},
    )
    (folder / "laser.json").write_text(config.model_dump_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(folder / "cache"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), *sys.path]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # it would write a token into the home folder
        patch.setenv("OMP_NUM_THREADS", "1")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            cluster.add_node(num_cpus=1)
            yield Shop(folder, {**os.environ, "RAY_ADDRESS": cluster.address}, cluster.address)
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def run(shop: Shop) -> RunFolder:
    """A run that lost a worker, then its driver, and then went on with half as many workers."""
    begin, go_on, _ = shop.page()
    driver = shop.start(*begin, "--config", "laser.json")
    wait(lambda: shop.steps("collaborative") > 3 and len(shop.workers()) == 2, driver)
    killed, reached = max(shop.workers()), shop.steps("collaborative")
    assert reached
    os.kill(killed, signal.SIGKILL)
    wait(lambda: shop.steps("stage1") > 3, driver)
    assert killed not in shop.workers()  # others went on
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert shop.steps("stage1")
    driver = shop.start(*go_on)
    told, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, told
    assert "Laser, test" in told
    return RunFolder.open(shop.folder / "runs" / "shop")


@pytest.fixture(scope="module")
def alone(shop: Shop, run: RunFolder) -> RunFolder:
    """The same run in one process that nobody killed."""
    data, config = Dataset.load(shop.folder / "data" / "shop"), LaserConfig.load(shop.folder / "laser.json")
    config = config.override([f"runtime.shards={shards_for(2)}"])
    whole = RunFolder.begin(shop.folder / "alone", config, data, shop.folder / "data" / "shop", command=[])
    with pytest.MonkeyPatch.context() as patch, whole.work(threads=1) as clock:
        patch.setenv("LASERREC_CACHE", str(shop.folder / "cache"))
        from laserrec.training.observers import EpochLog

        train_run(whole, data, [clock, EpochLog(whole.path)])
    return whole


def test_nothing_is_left_to_do_or_to_clear_away(run: RunFolder) -> None:
    assert run.finished
    assert run.config.runtime.shards == shards_for(2) == 4
    assert not (run.path / "ray").exists()
    assert {path.name for path in run.path.iterdir() if path.is_dir()} == {*FITS, "model"}


def test_a_second_command_leaves_the_run_to_the_first(shop: Shop, run: RunFolder) -> None:
    others = run.path / "ray" / "1"
    others.mkdir(parents=True)
    with alone_with(run.path), pytest.raises(CheckpointError, match="being trained by another process"):
        train_on_cluster(run, shop.folder / "data" / "shop", shop.address, 1, None, print)
    others.rmdir()  # still there
    others.parent.rmdir()


@pytest.mark.parametrize("fit", FITS)
def test_every_epoch_is_as_if_nobody_had_been_killed(run: RunFolder, alone: RunFolder, fit: str) -> None:
    mine, theirs = (
        [json.loads(line) for line in (folder.path / fit / "metrics.jsonl").read_text().splitlines()] for folder in (run, alone)
    )
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        assert one["train"] == pytest.approx(other["train"], rel=1e-3, abs=1e-5)
        assert one["valid"] == pytest.approx(other["valid"], rel=1e-6)


def test_the_model_and_its_ranks_are_the_same(run: RunFolder, alone: RunFolder) -> None:
    for name in ("laser.safetensors", "collaborative.safetensors"):
        mine, theirs = (load_file(folder.model / name) for folder in (run, alone))
        assert mine.keys() == theirs.keys()
        assert all(torch.allclose(mine[key], theirs[key], rtol=1e-3, atol=1e-4) for key in mine)
    for split in ("valid", "test"):
        ranks = [pl.read_parquet(folder.path / f"ranks-{split}.parquet") for folder in (run, alone)]
        assert ranks[0].equals(ranks[1])


def test_the_page_recommends_to_everybody(
    shop: Shop, run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from laserrec.cli import app

    monkeypatch.setenv("RAY_ADDRESS", shop.address)
    app(shop.page()[2], standalone_mode=False)
    assert "recommendations for 11 users in 1 files; manifest.json lists them" in capsys.readouterr().out
    assert (shop.folder / "recommendations" / "part-000000.parquet").is_file()


def test_every_user_gets_what_one_process_recommends(shop: Shop, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is killed when the first of three parts is done; later a part that is gone is made again, and no other."""
    monkeypatch.setattr("laserrec.distributed.users.USERS_AT_ONCE", 80)
    data, out = small_shop.dataset(200), shop.folder / "all"
    data.save(shop.folder / "many")
    request, told = Request(run.model, shop.folder / "many", 3, True, None, ["kite"], None), list[int]()

    def kill_one(done: int) -> None:
        if not told:
            os.kill(max(shop.workers("ray::_Actor")), signal.SIGKILL)
        told.append(done)

    def make() -> dict[str, int]:
        return recommend_on_cluster(request, out, shop.address, 2, None, kill_one)

    rows = make()
    assert len(rows) == 3
    assert max(told) == 200
    laser = Laser.load(run.model, device="cpu")
    parts = [recommend_users(laser, data, 3, without=["kite"], users=range(at, min(at + 80, 200))) for at in (0, 80, 160)]
    found, whole = pl.concat([pl.read_parquet(out / name) for name in rows]), recommend_users(laser, data, 3, without=["kite"])
    assert found.equals(pl.concat(parts))
    # Computed together with others, a score may have another last digit.
    assert found.drop("score").equals(whole.drop("score"))
    assert found["score"].to_list() == pytest.approx(whole["score"].to_list(), rel=1e-5)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["users"] == 200
    assert sum(manifest["parts"].values()) == whole.height
    first, second = (out / f"part-00000{place}.parquet" for place in range(2))
    written, content = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    assert make() == rows
    assert first.stat().st_mtime_ns == written
    assert second.read_bytes() == content
    with pytest.raises(CheckpointError, match="something else than an answer to this request"):
        recommend_on_cluster(replace(request, k=4), out, shop.address, 2, None, kill_one)


def test_a_request_that_failed_before_its_first_part_may_be_corrected(shop: Shop, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's own error is raised here; one that dies says how often, and parts that are there are kept."""
    monkeypatch.setattr("laserrec.distributed.parts.DEATHS", 0)
    out, data = shop.folder / "corrected", shop.folder / "data" / "shop"

    def make(build: Callable[[str], PartMaker], size: int = 6, address: str = shop.address) -> list[Path]:
        return make_parts(out, {"asked": "this"}, build, 11, size, address, 1, "cpu", lambda _: None)

    def die(device: str) -> PartMaker:
        os._exit(1)

    with pytest.raises(ConfigError, match="Found no Ray cluster"):
        make(die, address="127.0.0.1:1")
    assert not any(out.iterdir())
    absent = Request(shop.folder / "absent", data, 3, True, None, None, None)
    with pytest.raises(AssetError, match="There is no model folder"):
        make(partial(_Recommending, absent))
    with pytest.raises(UnknownIdError, match="kiet"):
        make(partial(_Recommending, replace(absent, model=run.model, only=["kiet"])))
    assert not any(out.iterdir())
    parts = make(partial(_Recommending, replace(absent, model=run.model)))
    assert [pl.read_parquet(part)["user_id"].n_unique() for part in parts] == [6, 5]
    parts[1].unlink()
    with pytest.raises(LaserrecError, match=r"A worker died more than 0 times.*parts that are done are kept"):
        make(die)
    assert sorted(path.name for path in out.iterdir()) == ["part-000000.parquet", "request.json"]
    with pytest.raises(CheckpointError, match="something else than an answer to this request"):
        make(die, size=5)  # other rows would have the same names


def test_every_case_gets_the_rank_that_one_process_finds(shop: Shop, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In three parts of eleven cases; what an earlier evaluation of another model has left is thrown away."""
    monkeypatch.setattr("laserrec.distributed.evaluate.CASES_AT_ONCE", 4)
    monkeypatch.setattr("laserrec.distributed.evaluate.rows_at_once", lambda _: 2)
    expected, told = Evaluation.load(run.ranks("test")), list[int]()
    run.ranks("test").unlink()
    left = run.path / "ranks-test.parts"
    left.mkdir()
    (left / "request.json").write_text("{}")
    evaluate_on_cluster(run, shop.folder / "data" / "shop", "test", shop.address, 2, None, told.append)
    found = Evaluation.load(run.ranks("test"))
    assert (max(told), len(told), len(found)) == (10, 3, 11)
    for protocol in PROTOCOLS:
        assert found.ranks[protocol].tolist() == expected.ranks[protocol].tolist()
        assert found.metrics(protocol) == pytest.approx(expected.metrics(protocol))
    assert found.about == expected.about
    assert not left.exists()


def test_a_worker_gets_what_its_share_of_the_cluster_is(shop: Shop) -> None:
    with connected(shop.address):
        assert share_of(2, None) == Worker(cpus=1, gpu=False)
        with pytest.raises(ConfigError, match="3 workers need a core each; the cluster has 2 cores and 0 GPUs on 2 machines"):
            share_of(3, None)
        with pytest.raises(ConfigError, match="1 worker needs a core and a GPU of the same machine each"):
            share_of(1, "cuda")
        with pytest.raises(ConfigError, match="Received the device 'mps'"):
            share_of(1, "mps")
