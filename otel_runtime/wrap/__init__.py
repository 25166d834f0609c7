"""Decorators and context managers, and the way of one guarded call: admission, permit, settle."""
