"""Models beside each other on the same cases: intervals, paired tests, slices, published figures."""
