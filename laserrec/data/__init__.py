"""Interactions, catalogues and their texts: read, prepared, divided and named. Polars in, numpy out; nothing of models."""
