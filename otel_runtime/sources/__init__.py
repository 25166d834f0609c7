"""Event vocabularies of other systems, translated into TraceEvents."""
