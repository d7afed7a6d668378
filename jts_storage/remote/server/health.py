"""`grpc.health.v1`: whether each store answers, told at once or for as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

_STATES: Final = health_pb2.HealthCheckResponse
_Context = aio.ServicerContext[Any, Any]


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Its streams end when the gateway stops: that of grpcio would hold a stop up for its grace."""

    def __init__(self) -> None:
        self._states: dict[str, Any] = {"": _STATES.SERVING}
        self._changed = asyncio.Event()
        self._is_over = False

    async def Check(self, request: Any, context: _Context) -> Any:  # noqa: N802
        state = self._states.get(request.service)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return _STATES(status=state)

    async def Watch(self, request: Any, context: _Context) -> None:  # noqa: N802
        told = None
        while True:
            changed, is_over = self._changed, self._is_over
            state = self._states.get(request.service, _STATES.SERVICE_UNKNOWN)
            if state != told:
                await context.write(_STATES(status=state))
                told = state
            if is_over:
                return
            await changed.wait()

    def set(self, answers: Mapping[str, bool]) -> None:
        """
        :param answers: whether each of these is well.
        """
        if not self._is_over:
            self._become(
                {
                    name: _STATES.SERVING if is_well else _STATES.NOT_SERVING
                    for name, is_well in answers.items()
                }
            )

    def end(self) -> None:
        """Nothing is well any more; whoever listens is told, and no longer listens."""
        self._is_over = True
        self._become(dict.fromkeys(self._states, _STATES.NOT_SERVING))

    def _become(self, states: Mapping[str, Any]) -> None:
        self._states.update(states)
        self._changed.set()
        self._changed = asyncio.Event()
