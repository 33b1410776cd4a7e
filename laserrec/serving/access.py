"""Access keys: `lr_<id>_<secret>`, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping

from laserrec.serving.store import SCOPES, Key, Scope

SECRET_BYTES = 32
"""So long that neither a guess nor a plain hash of it can be tried out; a slow hash is for passwords."""


def make_key(scope: Scope) -> tuple[Key, str]:
    """Return a new key as a store keeps it, and its text, which nobody can find again."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(SECRET_BYTES)
    return Key(key_id, _hash(secret), scope, time.time_ns() // 1000), f"lr_{key_id}_{secret}"


def scope_of(text: str, keys: Mapping[str, Key]) -> Scope | None:
    """Return what a key's text allows; None where no such key is kept.

    Args:
        text: as `make_key` returned it.
        keys: the kept ones by id.
    """
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    key = keys.get(key_id)
    if prefix != "lr" or key is None:
        return None
    return key.scope if hmac.compare_digest(_hash(secret), key.hash) else None


def allows(held: Scope, needed: Scope) -> bool:
    """Return whether a scope holds another."""
    return SCOPES.index(held) >= SCOPES.index(needed)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
