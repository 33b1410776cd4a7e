"""Runs on disk: training them, planning them, baselines beside them, recommendations for every user."""
