"""Scores to ranks, ranks to metrics, metrics to intervals and tests."""
