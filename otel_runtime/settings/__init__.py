"""Settings and the reading of the files people write."""
