"""The embedded engine behind ClickHouse's native protocol, on loopback."""
