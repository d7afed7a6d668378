"""A storage in another process: the client of a gateway, and below `server` the gateway itself."""
