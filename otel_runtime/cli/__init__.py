"""The console script: thin commands over the rooms below."""
