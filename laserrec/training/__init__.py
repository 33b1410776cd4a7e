"""One loop, and the tasks it trains."""
