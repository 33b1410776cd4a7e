"""The Hugging Face hub: asked only for names that begin with `hf:`, and kept out of reach while folders are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from laserrec.errors import AssetError

HUB = "hf:"
"""What the name of a repository on the hub begins with; without it a mistyped path would load whatever somebody put there."""


def fetch_repository(repository: str, files: Sequence[str], without: Sequence[str] = ()) -> Path:
    """Return the local folder of a repository's files, fetched where they are not in Hugging Face's cache.

    Args:
        repository: `owner/name`.
        files: patterns of the files to fetch.
        without: patterns of files to leave out.

    Raises:
        AssetError: the hub refuses, or cannot be reached and the files are not in the cache.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(files), ignore_patterns=list(without) or None))
    except hub_errors() as error:
        raise AssetError(f"The Hugging Face repository {repository!r} cannot be had: {error}") from error


def hub_errors() -> tuple[type[Exception], ...]:
    """Return what huggingface_hub raises when the hub refuses or cannot be reached; which HTTP client's errors depends on its version."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    client_error: type[Exception] = HfHubHTTPError.__bases__[0]
    return client_error, HFValidationError, OSError


@contextmanager
def hub_out_of_reach() -> Iterator[None]:
    """Keep Hugging Face's libraries from asking the hub, whatever the files that they read name: adapters, kernels, tokenizers."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
