"""A Ray cluster: how to reach it, and what each worker may have of it. Ray is imported when a cluster is asked for, and not before."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from laserrec.errors import ConfigError, MissingExtraError

LOG = logging.getLogger(__name__)
PATIENCE = 5.0
"""Seconds in which a cluster's head must answer; Ray itself would try for two minutes."""


@dataclass(frozen=True)
class Worker:
    """What a worker has of its machine.

    Attributes:
        cpus: processor cores, and so threads.
        gpu: whether it has a GPU to itself.
    """

    cpus: int
    gpu: bool


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect this process to a cluster.

    Args:
        address: `auto` for the cluster that this machine belongs to, `host:port` of a cluster's head, or `local` for a cluster of this
            machine alone, which ends with the connection.

    Raises:
        ConfigError: there is no such cluster, or it wants a token that this process lacks.
        MissingExtraError: Ray is not installed.
    """
    # Nothing is sent to Ray's makers unless the user has switched that on.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import AuthenticationError
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "Working on a cluster") from error
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        if address not in ("auto", "local"):
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        # What a worker has to say comes through files of the run; Ray's own processes would say more than a user wants to know.
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
    except (OSError, ValueError, RuntimeError, AuthenticationError) as error:
        raise ConfigError(
            f"Found no Ray cluster at {address!r} ({type(error).__name__}). Start Ray there, give the address of another cluster's "
            "head, or `local` for this machine alone. A cluster with a token needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here, too.",
            parameters=["ray"],
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def share_of(workers: int, device: str | None) -> Worker:
    """Return what each of some workers may have of the cluster: a GPU if there is one for each, and as many cores as fit.

    Args:
        workers: how many there are.
        device: `cpu` or `cuda`; when unset `cuda` where there are enough GPUs.

    Raises:
        ConfigError: the cluster is too small.
    """
    import ray

    if device not in (None, "cpu", "cuda"):
        raise ConfigError(
            f"Received the device {device!r}; on a cluster it is cpu or cuda, and each worker gets its own.", parameters=["device"]
        )
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in found]
    gpu = most_cores(nodes, workers, gpu=True) > 0 if device is None else device == "cuda"
    cores = most_cores(nodes, workers, gpu=gpu)
    if not cores:
        all_cores, all_gpus = (sum(counts) for counts in zip(*nodes, strict=True))
        raise ConfigError(
            f"{workers} worker{'s need' if workers > 1 else ' needs'} a core{' and a GPU of the same machine' * gpu} each; the cluster has "
            f"{all_cores} cores and {all_gpus} GPUs on {len(nodes)} machines. Ask for fewer workers, or add machines.",
            parameters=["workers"],
        )
    free = ray.available_resources()
    if free.get("CPU", 0) < workers * cores or free.get("GPU", 0) < workers * gpu:
        LOG.warning("Others use the cluster now; the work starts when %s cores%s are free.", workers * cores, f" and {workers} GPUs" * gpu)
    return Worker(cores, gpu)


def most_cores(nodes: Sequence[tuple[int, int]], workers: int, *, gpu: bool) -> int:
    """Return how many cores each of some workers can have; 0 if there is no place for all.

    Args:
        nodes: cores and GPUs of each machine. A worker's cores and its GPU belong to one.
        workers: how many there are.
        gpu: whether each needs a GPU.

    Example:
        assert most_cores([(64, 0), (4, 2)], 2, gpu=True) == 2
    """

    def places(cores: int) -> int:
        return sum(min(has // cores, gpus) if gpu else has // cores for has, gpus in nodes)

    most = max((has for has, _ in nodes), default=0)
    return max((cores for cores in range(1, most + 1) if places(cores) >= workers), default=0)
