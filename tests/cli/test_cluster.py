"""`--ray` and `--workers`: what the commands refuse before they ask any cluster; what they do on one is tested in tests/distributed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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

    two, plain = _Cluster("local", 2, None), LaserConfig()
    assert plain.runtime.shards == 1
    assert two.settings(plain, None).runtime.shards == 4
    assert two.settings(plain.override(["runtime.shards=7"]), None).runtime.shards == 7
    begun = RunFolder.open(Path("run"))
    begun.config = begun.config.override(["runtime.shards=6"])
    assert two.settings(plain, begun).runtime.shards == 6
    begun.config = begun.config.override(["runtime.shards=1"])  # begun without a cluster: every resume goes on with the same noise
    assert two.settings(plain, begun).runtime.shards == 1
