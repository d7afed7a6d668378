"""Writes ops/prometheus/rules.yml, and the cases that promtool tries it with.

Both come from the thresholds of `jts_storage.observe.ALERTS`, which judge within a process, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from generated_files import written

from jts_storage.observe.alerts import ALERTS, Alert

OPS = Path(__file__).resolve().parent.parent / "ops" / "prometheus"
RULES, CASES = OPS / "rules.yml", OPS / "rules_test.yml"

_HEAD = "# Made by scripts/generate_alert_rules.py from jts_storage/observe/alerts.py.\n"
_EXAMPLES = {
    "store": "mongo",
    "exchange": "KRX",
    "timeframe": "1m",
    "table": "candles",
    "way": "direct",
    "outcome": "conflict",
}


# Only who scrapes can notice it, so nothing within a process judges it.
_SILENT = """\
      - alert: MetricsMissing
        expr: up{job="jts_storage"} == 0
        for: 10s
        labels:
          severity: critical
        annotations:
          summary: "Nothing answers at {{ $labels.instance }}, where metrics should be."
          runbook: docs/how-to/on-call.md#metrics-are-missing
"""
_SILENT_CASE = """\
  - interval: 5s
    input_series:
      - series: 'up{job="jts_storage",instance="127.0.0.1:9108"}'
        values: '1x5 0x20 1x20'
    alert_rule_test:
      - eval_time: 30s
        alertname: MetricsMissing
        exp_alerts: []
      - eval_time: 1m
        alertname: MetricsMissing
        exp_alerts:
          - exp_labels: {severity: critical, job: jts_storage, instance: "127.0.0.1:9108"}
            exp_annotations:
              summary: Nothing answers at 127.0.0.1:9108, where metrics should be.
              runbook: docs/how-to/on-call.md#metrics-are-missing
      - eval_time: 150s
        alertname: MetricsMissing
        exp_alerts: []
"""


def rules() -> str:
    lines = [_HEAD, "groups:\n", "  - name: jts_storage\n", "    interval: 5s\n", "    rules:\n"]
    return "".join([*lines, *(line for alert in ALERTS for line in _rule(alert)), _SILENT])


def _rule(alert: Alert) -> Iterator[str]:
    yield f"      - alert: {alert.name}\n"
    yield f"        expr: {alert.expression}\n"
    yield f"        for: {alert.lasting:.0f}s\n"
    yield f"        labels:\n          severity: {alert.severity}\n"
    yield "        annotations:\n"
    yield f'          summary: "{_templated(alert)}"\n'
    yield f"          runbook: {alert.runbook}\n"


def _templated(alert: Alert) -> str:
    """The summary, with the placeholders of Prometheus."""
    text = alert.summary
    for label in () if alert.rate else alert.metric.labels:
        text = text.replace(f"{{{label}}}", f"{{{{ $labels.{label} }}}}")
    for form, digits in ((":.0f", ".0f"), (":.1f", ".1f")):
        text = text.replace(f"{{value{form}}}", f'{{{{ $value | printf \\"%{digits}\\" }}}}')
    return text


def cases() -> str:
    head = [_HEAD, "rule_files: [rules.yml]\n", "evaluation_interval: 15s\n", "tests:\n"]
    return "".join([*head, *(line for alert in ALERTS for line in _case(alert)), _SILENT_CASE])


def _case(alert: Alert) -> Iterator[str]:
    """Fires while the threshold is crossed, and not before, nor after."""
    labels = {name: _EXAMPLES[name] for name in alert.metric.labels} | dict(alert.where)
    series = ",".join(f'{name}="{value}"' for name, value in labels.items())
    name = f"{alert.metric.exposed}{{{series}}}" if series else alert.metric.exposed
    well, ill, firing = _values(alert)
    minutes = int(alert.lasting // 60) + (6 if alert.rate else 2)
    last = minutes + 4
    after = _after(alert, last)
    yield "  - interval: 1m\n    input_series:\n"
    yield f"      - series: '{name}'\n        values: '{well}x5 {ill}x{last} {after}'\n"
    yield "    alert_rule_test:\n"
    yield f"      - eval_time: 4m\n        alertname: {alert.name}\n        exp_alerts: []\n"
    yield f"      - eval_time: {6 + minutes}m\n        alertname: {alert.name}\n"
    yield "        exp_alerts:\n"
    kept = {} if alert.rate else labels
    told = {"severity": alert.severity} | kept
    yield f"          - exp_labels: {{{', '.join(f'{k}: {v!r}' for k, v in told.items())}}}\n"
    yield "            exp_annotations:\n"
    yield f"              summary: {alert.summary.format(value=firing, **labels)!r}\n"
    yield f"              runbook: {alert.runbook}\n"
    yield f"      - eval_time: {last + 14}m\n        alertname: {alert.name}\n"
    yield "        exp_alerts: []\n"


def _values(alert: Alert) -> tuple[str, str, float]:
    """A series that is well, one that is ill, each as promtool writes them, and its value."""
    bound = alert.above if alert.above is not None else alert.below
    assert bound is not None
    if alert.rate:
        step = (bound + 1) * 60
        return "0+0", f"0+{step:.0f}", bound + 1
    ill = bound + 1 if alert.above is not None else bound - 1
    return f"{bound:.0f}+0", f"{ill:.0f}+0", ill


def _after(alert: Alert, last: int) -> str:
    """As it is again after so many minutes of being ill."""
    bound = alert.above if alert.above is not None else alert.below
    assert bound is not None
    if alert.rate:
        return f"{(bound + 1) * 60 * last:.0f}+0x12"
    return f"{bound:.0f}+0x12"


def main() -> None:
    written({RULES: rules(), CASES: cases()}, check="--check" in sys.argv)


if __name__ == "__main__":
    main()
