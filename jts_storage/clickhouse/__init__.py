"""Candles and symbols in ClickHouse, on a server or embedded in the process."""
