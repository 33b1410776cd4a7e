"""Named downloads: pinned by sha256, fetched once, kept in a cache folder.

Knows nothing of what the files mean: `laserrec.nn.gguf` turns the language model's file into weights, `laserrec.data` reads interactions.
"""

from laserrec.assets.catalogue import ASSETS, Asset, find
from laserrec.assets.store import build_once, cache_folder, fetch, fetched_folder

__all__ = ["ASSETS", "Asset", "build_once", "cache_folder", "fetch", "fetched_folder", "find"]
