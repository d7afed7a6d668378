"""``python -m jts_storage.clickhouse.endpoint``."""

from jts_storage.clickhouse.endpoint.server import main

raise SystemExit(main())
