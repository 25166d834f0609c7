"""The version of the distribution, read by the build backend and sent as the instrumentation scope version."""

__version__ = "0.1.0"
