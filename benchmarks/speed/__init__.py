"""Speed, measured beside the plain route and the machine's own limits in one run."""
