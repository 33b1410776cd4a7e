"""What every program needs of the machine: devices, memory, files written atomically, the user's cache. Knows nothing of recommendation."""
