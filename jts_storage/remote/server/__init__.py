"""A gateway: serves the stores of its process to clients elsewhere."""
