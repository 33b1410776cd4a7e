"""Choosing settings by their validation score: the same small search for every model."""
