"""What the stores do, for those who look after them: metrics, traces, logs, alerts, diagnoses.

Nothing of it is loaded, and no call takes longer, until a storage is opened with an observer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jts_storage.observe.alerts import ALERTS as ALERTS
    from jts_storage.observe.alerts import Alert as Alert
    from jts_storage.observe.alerts import Notice as Notice
    from jts_storage.observe.diagnosis import Diagnosis as Diagnosis
    from jts_storage.observe.diagnosis import LastErrors as LastErrors
    from jts_storage.observe.exposition import Exposition as Exposition
    from jts_storage.observe.exposition import MetricsServer as MetricsServer
    from jts_storage.observe.judging import Judge as Judge
    from jts_storage.observe.logs import json_formatter as json_formatter
    from jts_storage.observe.metrics import Metrics as Metrics
    from jts_storage.observe.service import MetricsData as MetricsData
    from jts_storage.observe.service import MonitoringService as MonitoringService
    from jts_storage.observe.several import Observers as Observers
    from jts_storage.observe.several import SlowCalls as SlowCalls
    from jts_storage.observe.traces import Traces as Traces

_HOMES: Final = {
    "ALERTS": "alerts",
    "Alert": "alerts",
    "Judge": "judging",
    "Notice": "alerts",
    "Diagnosis": "diagnosis",
    "LastErrors": "diagnosis",
    "Exposition": "exposition",
    "MetricsServer": "exposition",
    "json_formatter": "logs",
    "Metrics": "metrics",
    "MetricsData": "service",
    "MonitoringService": "service",
    "Observers": "several",
    "SlowCalls": "several",
    "Traces": "traces",
}
_NEEDS: Final = {
    "prometheus_client": "metrics",
    "psutil": "metrics",
    "opentelemetry": "otel",
}

__all__ = [
    "ALERTS",
    "Alert",
    "Diagnosis",
    "Exposition",
    "Judge",
    "LastErrors",
    "Metrics",
    "MetricsData",
    "MetricsServer",
    "MonitoringService",
    "Notice",
    "Observers",
    "SlowCalls",
    "Traces",
    "json_formatter",
]


def __getattr__(name: str) -> object:
    """Load what is asked for.

    :raises InvalidConfiguration: naming the extra that it needs and that is not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as exc:
        extra = _NEEDS.get((exc.name or "").partition(".")[0])
        if extra is None:
            raise
        from jts_storage.errors import InvalidConfiguration

        raise InvalidConfiguration(
            f"{name} needs {exc.name}, which is not installed",
            remedy=f"pip install 'jts-storage[{extra}]'",
        ) from exc
