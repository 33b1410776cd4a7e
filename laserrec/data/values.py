"""What single values of a table mean."""

from __future__ import annotations

from typing import Any


def as_text(value: Any) -> str | None:  # noqa: ANN401 - whatever JSON holds
    """Return a JSON value as an attribute's text: lists joined by commas, objects as `key: value`, blanks as None."""
    if value is None or value is False or value is True:
        return None if value is None else str(value).lower()
    if isinstance(value, list):
        return ", ".join(text for entry in value if (text := as_text(entry))) or None
    if isinstance(value, dict):
        return ", ".join(f"{key}: {text}" for key, entry in value.items() if (text := as_text(entry))) or None
    # Escapes such as \ud800 give text that no encoding can write.
    return str(value).encode("utf-8", "replace").decode("utf-8")
