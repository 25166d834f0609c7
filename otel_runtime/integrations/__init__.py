"""Bridges to frameworks, one file each, imported only when asked for."""
