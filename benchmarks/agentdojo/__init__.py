"""AgentDojo's suites, replayed with their ground-truth calls through guarded tools: no model, no network."""
