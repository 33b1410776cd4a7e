"""`--ray` and `--workers`: what the commands refuse before they ask any cluster; what they do on one is tested in tests/distributed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Run = Callable[..., tuple[int, str, str]]
EVERYBODY = ("recommend", "run", "--all-users", "--ray", "local")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "--out", "new", "--data", "data", "--workers", 2), "--workers needs --ray"),
        (("evaluate", "run", "--workers", 2), "--workers needs --ray"),
        (("recommend", "run", "--all-users", "--out", "all.csv", "--workers", 2), "--workers needs --ray"),
        (("train", "--out", "new", "--data", "data", "--ray", "local", "--plan"), "--plan predicts a run on this machine; leave --ray out"),
        (("train", "--out", "new", "--data", "data", "--ray", "local", "--tensorboard"), "--tensorboard is not written by the workers"),
        (("recommend", "run", "--user", "anna", "--ray", "local"), "--ray is for --all-users"),
        ((*EVERYBODY, "--out", "all.csv"), "--out is a folder of Parquet files; received all.csv"),
        (("recommend", "hf:a/b", "--all-users", "--ray", "local", "--out", "all"), "download a/b into one first and give that folder"),
        ((*EVERYBODY, "--out", "all", "--skip-unknown"), "--skip-unknown does not go with --ray"),
    ],
)
def test_what_says_nothing_on_a_cluster_is_refused(words: tuple[object, ...], told: str, laserrec: Run) -> None:
    code, out, err = laserrec(*words)
    assert (code, out) == (2, "")
    assert told in err


def test_the_shards_of_a_run_are_kept_and_given_by_workers(laserrec: Run) -> None:
    from laserrec.cli.train import _Cluster
    from laserrec.config import LaserConfig
    from laserrec.runs.folder import RunFolder

    two, plain = _Cluster("local", 2), LaserConfig()
    assert plain.runtime.shards == 1
    assert two.settings(plain, None).runtime.shards == 4
    assert two.settings(plain.override(["runtime.shards=7"]), None).runtime.shards == 7
    begun = RunFolder.open(Path("run"))
    begun.config = begun.config.override(["runtime.shards=6"])
    assert two.settings(plain, begun).runtime.shards == 6
    begun.config = begun.config.override(["runtime.shards=1"])  # begun without a cluster: every resume goes on with the same noise
    assert two.settings(plain, begun).runtime.shards == 1


def test_a_run_that_goes_on_on_a_cluster_keeps_quiet_about_the_device_of_the_driver(laserrec: Run) -> None:
    from laserrec.runs.folder import RunFolder

    begun = RunFolder.open(Path("run"))
    begun.about |= {"begun_on": "cuda", "threads": 1 << 20}
    assert begun.rounded_otherwise(None) == []
    assert [change.split()[0] for change in begun.rounded_otherwise(torch.device("cpu"))] == ["device", "threads"]


def test_the_command_that_continues_names_the_device_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from laserrec.cli.train import _Cluster, _continuation, _Wish

    monkeypatch.setattr("sys.argv", ["laserrec", "train"])
    wish = _Wish(None, None, False, False, False, False, "cuda", torch.device("cpu"), _Cluster("a:1", 2))
    assert _continuation(Path("my run"), wish) == "laserrec train --out 'my run' --resume --device cuda --ray a:1 --workers 2"
