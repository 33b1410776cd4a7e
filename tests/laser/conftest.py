"""The tests of this folder share one trained shop."""

from shop_fixtures import _cached, cache, data, laser, llm, model_folder, saved, trained

__all__ = ["_cached", "cache", "data", "laser", "llm", "model_folder", "saved", "trained"]
