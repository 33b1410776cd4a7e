"""Named downloads: pinned by sha256, fetched once, kept in a cache folder.

Knows nothing of what the files mean: `laserrec.llm.gguf` turns the language model's file into weights, `laserrec.data` reads interactions.
"""

from laserrec.assets.catalogue import ASSETS, Asset, find
from laserrec.assets.store import fetch, fetched_folder
from laserrec.system.cache import build_once, cache_folder

__all__ = ["ASSETS", "Asset", "build_once", "cache_folder", "fetch", "fetched_folder", "find"]
