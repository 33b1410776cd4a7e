"""Laser itself (paper §3): virtual tokens, M-Former, prompt orders, scoring, the model folder."""
