"""What this process and its host use, as far as psutil is installed."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple


class ProcessFigures(NamedTuple):
    """
    :param processors: how many this process has kept busy since the last look.
    :param memory_bytes: of this process, resident.
    :param host_cpu: percent of all processors in use since the last look.
    :param host_memory: percent of the host's memory in use.
    """

    processors: float
    memory_bytes: int
    host_cpu: float
    host_memory: float


def process_figures() -> ProcessFigures | None:
    """Look now; None without psutil. The first look tells no processor time."""
    try:
        import psutil
    except ImportError:
        return None
    process = _process()
    return ProcessFigures(
        process.cpu_percent() / 100,
        process.memory_info().rss,
        psutil.cpu_percent(),
        psutil.virtual_memory().percent,
    )


def disk_usage(folder: str) -> float:
    """Percent of the disk of a folder in use."""
    import psutil

    return float(psutil.disk_usage(folder).percent)


@cache
def _process() -> Any:
    import psutil

    return psutil.Process()
