"""Measure speed beside the plain route and the machine's limits, in one run."""
