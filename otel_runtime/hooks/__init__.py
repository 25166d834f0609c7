"""Lifecycle hooks, the event bus, and work that must finish before shutdown. They observe; they never change a call."""
