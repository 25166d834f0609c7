"""Testing agents: a runtime in memory, and a pytest plugin that hands it to a test."""
