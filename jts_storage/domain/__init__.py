"""Entities, value objects and events: standard library and NumPy only, no store, no driver."""
