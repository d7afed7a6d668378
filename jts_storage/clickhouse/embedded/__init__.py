"""Local engines: what runs when no server is configured."""
