"""The text-once engine: encode each text a single time, keep it on disk and in memory, gather it for a history."""
