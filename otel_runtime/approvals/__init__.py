"""The durable request: a question to people about exactly one call, answered once."""
