"""One page about a run: what was trained on what, how it did, what it learnt, what it cost."""
