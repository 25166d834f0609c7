"""Rules that decide what an agent may do: the file, its meaning, the engine. Import from the modules directly."""
