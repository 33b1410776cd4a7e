"""A run trained by the workers of a Ray cluster, under Ray Train. Each runs the same stages as a single process would.

Ray starts the workers, connects them, and starts all of them again when one dies; they go on from the run's own checkpoints. So the run's
folder and the dataset must be where every worker finds them: on one machine, or on storage that all machines share.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, TextIO

import torch

from laserrec.config import LaserConfig
from laserrec.distributed.cluster import connected, share_of
from laserrec.distributed.processes import DistributedStrategy
from laserrec.errors import LaserrecError, TrainingError
from laserrec.runs.folder import RunFolder, train_run
from laserrec.system.devices import CPU
from laserrec.system.files import alone, read_json, write_json
from laserrec.system.progress import Observer

SHARDS = 4
"""Shards of a run that names no number, at least: so 1, 2 and 4 workers have equal shares."""
DEATHS = 8
"""Of workers, after which a run is given up: whatever kills them may do so each time."""
LONGEST_WAIT = 24 * 60 * 60
"""Seconds that a worker waits for another: a validation or the encoding of all texts is work of the main one alone, and may take hours.
Ray notices by itself when a worker dies."""
REFUSED, PROGRESS = "refused.json", "progress.txt"
WIDTH = 200
"""Letters of a line of progress, so that none is broken into two."""


def shards_for(workers: int) -> int:
    """Return how many shards a run that is begun by some workers has: the same number for each worker, and `SHARDS` at least.

    Example:
        assert [shards_for(workers) for workers in (1, 2, 3, 8)] == [4, 4, 6, 8]
    """
    return workers * -(-SHARDS // workers)


def train_on_cluster(run: RunFolder, data: Path, address: str, workers: int, device: str | None, say: Callable[[str], object]) -> None:
    """Train what is left of a run, save its model and evaluate it, all in the workers.

    Args:
        run: new or interrupted.
        data: folder of its dataset.
        address: the cluster's, see `cluster.connected`.
        workers: processes that train; no more than the run has shards.
        device: `cpu` or `cuda`; when unset `cuda` where there is a GPU for every worker.
        say: called with each line of the main worker's progress.

    Raises:
        CheckpointError: another process trains this run on a cluster.
        ConfigError: there is no such cluster, or it is too small.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
        MissingExtraError: Ray is not installed.
        TrainingError: the run cannot go on, or workers died too often.
    """
    with alone(run.path), _meeting_place(run.path.resolve() / "ray") as place, connected(address):
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.config import LoggingConfig

        share = share_of(workers, device)
        trainer = TorchTrainer(
            _work,
            train_loop_config={
                "run": str(run.path.resolve()),
                "config": run.config.model_dump(mode="json"),
                "data": str(data.resolve()),
                "threads": share.cpus,
                "place": str(place),
            },
            torch_config=TorchConfig(timeout_s=LONGEST_WAIT),
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=share.gpu, resources_per_worker={"CPU": share.cpus}, placement_strategy="SPREAD"
            ),
            run_config=RunConfig(
                name=place.name,
                storage_path=str(place.parent),
                failure_config=FailureConfig(max_failures=DEATHS),
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )
        own = signal.getsignal(signal.SIGINT)
        try:
            with _relayed(place / PROGRESS, say):
                trainer.fit()
        except SystemExit as stop:  # how Ray ends a driver whose training Ctrl-C has stopped
            raise KeyboardInterrupt from stop
        except TrainingFailedError as error:
            if not (place / REFUSED).is_file():
                raise TrainingError(f"Workers failed more than {DEATHS} times; what is done is kept. The last reason: {error}") from error
        finally:
            signal.signal(signal.SIGINT, own)
            refused = read_json(place / REFUSED) if (place / REFUSED).is_file() else None
        if refused is not None:
            raise TrainingError(refused["message"], parameters=refused["parameters"])


@contextmanager
def _meeting_place(folder: Path) -> Iterator[Path]:
    """Make a folder in which the workers meet, and clear it away at the end, with what drivers that were killed have left beside it."""
    # A fresh name, for Ray would go on from what it finds under an old one.
    place = folder / str(time.time_ns())
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(folder)


@contextmanager
def _relayed(path: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Repeat the lines that somebody adds to a file, while the block runs."""
    path.touch()
    ended = Event()

    def follow() -> None:
        with path.open(encoding="utf-8") as file:
            while True:
                last = ended.wait(0.5)
                for line in file:
                    say(line.rstrip())
                if last:
                    return

    follower = Thread(target=follow)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def _work(given: dict[str, Any]) -> None:
    """Do in one worker what a single process does; an error that another attempt would meet again is left for the driver instead."""
    place = Path(given["place"])
    if (place / REFUSED).is_file():
        return
    try:
        with (place / PROGRESS).open("a", encoding="utf-8") as progress:
            _train(Path(given["run"]), given["config"], Path(given["data"]), given["threads"], progress)
    except LaserrecError as error:
        write_json(place / REFUSED, {"message": str(error), "parameters": list(error.parameters)})
        raise


def _train(path: Path, config: dict[str, Any], data: Path, threads: int, progress: TextIO) -> None:
    from ray.train.torch import get_device
    from rich.console import Console
    from transformers.utils import logging

    from laserrec.training.observers import EpochLog, ProgressBar

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    run, strategy = RunFolder.open(path), DistributedStrategy()
    run.config = LaserConfig.build("default", config, source=str(path))
    device = get_device() if torch.cuda.is_available() else CPU
    torch.set_num_threads(min(threads, os.cpu_count() or 1))
    observers = list[Observer]()
    with ExitStack() as stack:
        if strategy.main:
            clock = stack.enter_context(run.work(device, threads))
            observers = [clock, ProgressBar(Console(file=progress, width=WIDTH)), EpochLog(path)]
        train_run(run, run.dataset(data), observers, device, strategy)
