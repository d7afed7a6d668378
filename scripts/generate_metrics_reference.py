"""Writes docs/reference/metrics.md from the catalogue of metrics and the alerts."""

from __future__ import annotations

import sys
from pathlib import Path

from generated_files import written

from jts_storage.observe.alerts import ALERTS
from jts_storage.observe.catalogue import OF_CALLS, OF_STATE, Metric

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "metrics.md"

_HEAD = """\
# Metrics and alerts

Made by `scripts/generate_metrics_reference.py`. [See what the stores do](../how-to/observe.md) says
how to have them.
No label names a symbol, a document or a text: each has few values.
"""


def page() -> str:
    return "\n".join(
        [
            _HEAD,
            "## Of calls\n",
            "Counted by the observer `Metrics` that a storage is opened with.\n",
            *_table(OF_CALLS),
            "\n## Of the stores\n",
            "Read when Prometheus asks; tables, newest candles and migrations once a minute.\n",
            *_table(OF_STATE),
            "\n## Alerts\n",
            "| alert | fires when | for | severity | what to do |",
            "|---|---|---|---|---|",
            *(
                f"| {each.name} | `{each.expression}` | {each.lasting:.0f} s | {each.severity} |"
                f" [runbook](../how-to/on-call.md#{each.section}) |"
                for each in ALERTS
            ),
            "",
        ]
    )


def _table(metrics: tuple[Metric, ...]) -> list[str]:
    rows = [
        f"| `{each.exposed}` | {each.kind} | {', '.join(each.labels) or 'none'} | {each.help} |"
        for each in metrics
    ]
    return ["| metric | kind | labels | what it says |", "|---|---|---|---|", *rows]


def main() -> None:
    written({PAGE: page()}, check="--check" in sys.argv)


if __name__ == "__main__":
    main()
