"""What a run will take, known before it starts: memory, disk and time for this data, these settings and this machine."""
