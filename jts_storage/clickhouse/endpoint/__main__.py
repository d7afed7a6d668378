"""``python -m jts_storage.clickhouse.endpoint``."""

from jts_storage.clickhouse.endpoint.server import main

if __name__ == "__main__":
    raise SystemExit(main())
