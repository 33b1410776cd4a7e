"""One file from one address: resumed after an interruption, bounded in size, checked by sha256.

Knows nothing of assets or caches.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from laserrec.errors import AssetError

CHUNK = 1 << 18
TIMEOUT_SECONDS = 30.0
FRUITLESS_ATTEMPTS = 4
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


class UnreachableError(AssetError):
    """The address did not give the file; another route may."""


def download(url: str, target: Path, *, sha256: str, size: int, progress: Callable[[int], None], pause_seconds: float = 0.5) -> None:
    """Complete the file at `target`, going on from whatever an interrupted call left there.

    Args:
        url: http or https address.
        target: where the file grows; its folder exists.
        sha256: hex digest that the whole file must have.
        size: bytes that the whole file must have.
        progress: called with the number of bytes there so far.
        pause_seconds: wait before the second attempt; doubled for each further one.

    Raises:
        UnreachableError: no connection, a refusal, or attempts that gain nothing any more; what came stays for the next call.
        AssetError: all bytes came and are not the expected ones; they are removed.
    """
    resumed = target.exists() and target.stat().st_size > 0
    _receive_all(url, target, size, progress, pause_seconds)
    if resumed and digest(target) != sha256:  # what was there before may have been another version's
        target.unlink()
        _receive_all(url, target, size, progress, pause_seconds)
    verify(target, sha256, source=url)


def verify(path: Path, sha256: str, source: str) -> None:
    """Remove the file and raise when its bytes are not the expected ones.

    Raises:
        AssetError: the digest differs.
    """
    received = digest(path)
    if received != sha256:
        path.unlink()
        raise AssetError(
            f"{source} gave other bytes than the pinned ones: sha256 {received}, expected {sha256}. They were removed; "
            "try again, and when it happens again look for a proxy or mirror that rewrites downloads."
        )


def digest(path: Path) -> str:
    """Return the hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _receive_all(url: str, target: Path, size: int, progress: Callable[[int], None], pause_seconds: float) -> None:
    fruitless, most = 0, _length(target)
    while _length(target) != size:
        reason = _receive(url, target, size, progress)
        there = _length(target)
        fruitless = 0 if most < there else fruitless + 1
        most = max(most, there)
        if there != size and fruitless >= FRUITLESS_ATTEMPTS:
            kept = f" The next attempt goes on from the {there} of {size} bytes that came." if there else ""
            raise UnreachableError(f"Cannot fetch {url}: {reason}.{kept}")
        if fruitless:
            time.sleep(pause_seconds * 2 ** (fruitless - 1))


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, target: Path, size: int, progress: Callable[[int], None]) -> str:
    """Append what one connection gives; return why it ended. Bytes that cannot be the beginning of this file are removed."""
    start = _length(target)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            position = start if response.status == 206 and _starts_at(response.headers.get("Content-Range"), start) else 0
            if response.status == 206 and position != start:
                target.unlink()
                return "the server answered with another range than the one asked for"
            with target.open("r+b" if target.exists() else "wb") as file:
                file.seek(position)
                file.truncate()
                while position <= size and (chunk := response.read(CHUNK)):
                    file.write(chunk)
                    position += len(chunk)
                    progress(position)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            target.unlink()  # nothing lies behind what is there, so it is not a part of this file
        elif error.code not in _PASSING_STATUS:
            raise UnreachableError(f"Cannot fetch {url}: the server answered {error.code} {error.reason}.") from error
        return f"the server answered {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    if position > size:
        target.unlink()
        return f"the server sends more than the {size} bytes expected"
    return "the connection ended early"


def _starts_at(content_range: str | None, start: int) -> bool:
    matched = re.match(r"bytes (\d+)-", content_range or "")
    return matched is not None and int(matched[1]) == start
