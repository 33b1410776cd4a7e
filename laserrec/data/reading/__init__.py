"""From files and frames to rows: opens a table once and returns the columns that were asked for. Knows nothing of what values mean."""
