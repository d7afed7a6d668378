"""Writes ops/grafana/*.json: an overview, each store, commits, and how fresh candles are.

A dashboard is a list of panels here: a title, a unit, and queries with their legends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from generated_files import written

from jts_storage.observe.catalogue import PREFIX

FOLDER = Path(__file__).resolve().parent.parent / "ops" / "grafana"

Query = tuple[str, str]
Panel = tuple[str, str, list[Query]]

_WIDTH, _HEIGHT = 12, 8


def _rate(name: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({PREFIX}{name}{where}[$__rate_interval]))"


def _quantile(share: float, name: str, by: str, where: str = "") -> str:
    buckets = f"sum by (le, {by}) (rate({PREFIX}{name}_bucket{where}[$__rate_interval]))"
    return f"histogram_quantile({share}, {buckets})"


def _p99(name: str) -> str:
    """Of what happens now and then."""
    return f"histogram_quantile(0.99, sum by (le) (rate({PREFIX}{name}_bucket[1h])))"


def _plain(name: str, legend: str = "") -> Query:
    return f"{PREFIX}{name}", legend


OVERVIEW: list[Panel] = [
    ("Stores that answer", "bool", [_plain("up", "{{store}}")]),
    ("Calls a second", "reqps", [(_rate("call_seconds_count", "store"), "{{store}}")]),
    ("Errors a second", "reqps", [(_rate("call_errors_total", "error"), "{{error}}")]),
    (
        "Call duration, p50 and p99",
        "s",
        [
            (_quantile(0.5, "call_seconds", "store"), "{{store}} p50"),
            (_quantile(0.99, "call_seconds", "store"), "{{store}} p99"),
        ],
    ),
    ("Calls that run", "short", [_plain("calls_running", "running")]),
    (
        "Commits a second",
        "reqps",
        [(_rate("commits_total", "way, outcome"), "{{way}} {{outcome}}")],
    ),
    ("Candles late", "s", [_plain("candles_late_seconds", "{{exchange}} {{timeframe}}")]),
    (
        "Process",
        "short",
        [_plain("process_cpu_ratio", "processors")],
    ),
    ("Memory of the process", "bytes", [_plain("process_memory_bytes", "memory")]),
    ("Room on the disk", "bytes", [_plain("disk_free_bytes", "{{store}}")]),
]


def _store(name: str) -> list[Panel]:
    where = f'{{store="{name}"}}'
    by = "repository, operation"
    legend = "{{repository}}.{{operation}}"
    return [
        ("Answers", "bool", [(f"{PREFIX}up{where}", name)]),
        ("Calls a second", "reqps", [(_rate("call_seconds_count", by, where), legend)]),
        ("p99 of a call", "s", [(_quantile(0.99, "call_seconds", by, where), legend)]),
        (
            "Errors a second",
            "reqps",
            [(_rate("call_errors_total", f"{by}, error", where), legend + " {{error}}")],
        ),
        (
            "Rows a second",
            "short",
            [(_rate("rows_total", "repository, direction", where), "{{repository}} {{direction}}")],
        ),
        ("Retries a second", "reqps", [(_rate("retries_total", "store", where), name)]),
    ]


_POOL = [
    ("pool_capacity", "capacity"),
    ("pool_open", "open"),
    ("pool_in_use", "in use"),
    ("pool_waiting", "waiting"),
]


def _pool(name: str) -> Panel:
    queries = [(f'{PREFIX}{metric}{{store="{name}"}}', legend) for metric, legend in _POOL]
    refused = f'increase({PREFIX}pool_timeouts_total{{store="{name}"}}[5m])'
    return ("Connections", "short", [*queries, (refused, "refused in 5 minutes")])


_HITS, _MISSES = (_rate(f"held_{each}_total", "operation") for each in ("answers", "misses"))

CLICKHOUSE: list[Panel] = [
    *_store("clickhouse"),
    _pool("clickhouse"),
    (
        "Answered from memory, a second",
        "reqps",
        [(_rate("held_answers_total", "operation"), "{{operation}}")],
    ),
    (
        "Share of reads answered from memory",
        "percentunit",
        [(f"{_HITS} / ({_HITS} + {_MISSES})", "{{operation}}")],
    ),
    (
        "Memory of held ranges",
        "bytes",
        [_plain("held_range_bytes", "bytes")],
    ),
    ("Active parts", "short", [_plain("clickhouse_parts", "{{table}}")]),
    ("Rows", "short", [_plain("clickhouse_rows", "{{table}}")]),
    ("Bytes on disk", "bytes", [_plain("clickhouse_bytes", "{{table}}")]),
    (
        "Merges, mutations, broken parts",
        "short",
        [
            _plain("clickhouse_merges", "merges"),
            _plain("clickhouse_mutations", "mutations"),
            _plain("clickhouse_broken_parts", "broken parts"),
        ],
    ),
]
MONGO: list[Panel] = [
    *_store("mongo"),
    _pool("mongo"),
    (
        "Events",
        "short",
        [
            _plain("outbox_waiting", "waiting for handlers"),
            _plain("outbox_parked", "parked"),
            _plain("subscriptions_waiting", "waiting for subscriptions"),
            _plain("subscriptions_parked", "parked for subscriptions"),
        ],
    ),
    ("Oldest waiting event", "s", [_plain("outbox_oldest_seconds", "age")]),
]
DATABASE: list[Panel] = [*_store("database"), _pool("database")]
COMMITS: list[Panel] = [
    (
        "Commits a second",
        "reqps",
        [(_rate("commits_total", "way, outcome"), "{{way}} {{outcome}}")],
    ),
    (
        "Commit duration",
        "s",
        [
            (_quantile(0.5, "call_seconds", "repository", '{operation="commit"}'), "p50"),
            (_quantile(0.99, "call_seconds", "repository", '{operation="commit"}'), "p99"),
        ],
    ),
    (
        "Where a journalled commit spends its time, p50",
        "s",
        [(_quantile(0.5, "commit_step_seconds", "step"), "{{step}}")],
    ),
    (
        "Unfinished commits",
        "short",
        [_plain("journal_unfinished", "unfinished"), _plain("journal_damaged", "damaged")],
    ),
    ("Oldest unfinished commit", "s", [_plain("journal_oldest_seconds", "age")]),
    (
        "Units of work that others had left, in an hour",
        "short",
        [(f"sum by (outcome) (increase({PREFIX}recoveries_total[1h]))", "{{outcome}}")],
    ),
    (
        "Time to finish one of them, p99",
        "s",
        [(_p99("recovery_seconds"), "p99")],
    ),
    (
        "Migrations of this process",
        "short",
        [_plain("migrations_total", "{{store}} {{outcome}}")],
    ),
    ("Migrations pending", "short", [_plain("migrations_pending", "{{store}}")]),
]
FRESHNESS: list[Panel] = [
    ("Late", "s", [_plain("candles_late_seconds", "{{exchange}} {{timeframe}}")]),
    (
        "Newest candle",
        "dateTimeAsIso",
        [(f"{PREFIX}candles_newest_timestamp_seconds * 1000", "{{exchange}} {{timeframe}}")],
    ),
    (
        "Candles written, a second",
        "short",
        [(_rate("rows_total", "repository", '{direction="written"}'), "{{repository}}")],
    ),
    (
        "Rows of imports, a second",
        "short",
        [(_rate("import_rows_total", "outcome"), "{{outcome}}")],
    ),
    (
        "Imports in an hour",
        "short",
        [
            (f"sum by (outcome) (increase({PREFIX}imports_total[1h]))", "{{outcome}}"),
            (f"increase({PREFIX}imports_resumed_total[1h])", "resumed"),
        ],
    ),
    (
        "Time of an import, p99",
        "s",
        [(_p99("import_seconds"), "p99")],
    ),
    ("Rows and documents left out", "short", [_plain("unreadable", "{{store}}")]),
]

REDIS: list[Panel] = [
    ("The cache is in use", "bool", [_plain("cache_ready", "ready")]),
    (
        "Reads through the cache, a second",
        "reqps",
        [(_rate("cache_reads_total", "outcome"), "{{outcome}}")],
    ),
    (
        "Answers not kept, a second",
        "reqps",
        [(_rate("cache_refused_total", "reason"), "{{reason}}")],
    ),
    (
        "Errors of Redis, commits it was not told of",
        "short",
        [
            (f"increase({PREFIX}cache_errors_total[5m])", "errors"),
            (f"increase({PREFIX}cache_unannounced_writes_total[5m])", "untold commits"),
        ],
    ),
    ("Kept in the process", "bytes", [_plain("cache_held_bytes", "bytes")]),
    ("Rate limits used", "percentunit", [_plain("rate_limit_used_ratio", "{{name}} {{limit}}")]),
    ("Waiting for a slot", "short", [_plain("rate_limit_waiting", "{{name}}")]),
]

DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "overview": ("jts_storage: overview", OVERVIEW),
    "clickhouse": ("jts_storage: ClickHouse", CLICKHOUSE),
    "mongo": ("jts_storage: MongoDB", MONGO),
    "database": ("jts_storage: bookkeeping", DATABASE),
    "commits": ("jts_storage: commits", COMMITS),
    "redis": ("jts_storage: cache and rate limits", REDIS),
    "freshness": ("jts_storage: how fresh candles are", FRESHNESS),
}


def dashboard(name: str) -> str:
    title, panels = DASHBOARDS[name]
    made = {
        "uid": f"jts-storage-{name}",
        "title": title,
        "tags": ["jts_storage"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(made, indent=2) + "\n"


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    title, unit, queries = panel
    place = {
        "x": number % 2 * _WIDTH,
        "y": number // 2 * _HEIGHT,
        "w": _WIDTH,
        "h": _HEIGHT,
    }
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "gridPos": place,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(queries)
        ],
    }


def main() -> None:
    files = {FOLDER / f"{name}.json": dashboard(name) for name in DASHBOARDS}
    written(files, check="--check" in sys.argv)


if __name__ == "__main__":
    main()
