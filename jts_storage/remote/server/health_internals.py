"""All that the kit uses of grpcio-health-checking beside what it documents: its asyncio form."""

from __future__ import annotations

from grpc_health.v1._async import HealthServicer

DEPENDS_ON = {"grpc_health.v1._async:HealthServicer": ("set", "enter_graceful_shutdown")}

__all__ = ["HealthServicer"]
