"""The composition root: builds the parts from settings, owns start, flush and shutdown; nothing else joins adapters."""
