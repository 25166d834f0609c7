"""Spans, metrics and exporters. Fails open: whatever happens here, the call around it goes on unchanged."""
