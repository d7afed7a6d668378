"""Events handed to handlers of the same process."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable

from jts_storage._runtime.tasks import is_being_cancelled
from jts_storage.domain.events import DomainEvent
from jts_storage.ports.events import ALL_EVENTS, EventHandler

log = logging.getLogger(__name__)


class InMemoryEventPublisher:
    """An `EventPublisher` that calls plain and coroutine functions, one after the other."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[EventHandler]] = {}
        self.failures = 0
        """How many handler calls have failed so far."""

    def register_handler(self, event_type: str | type[DomainEvent], handler: EventHandler) -> None:
        self._handlers.setdefault(_name(event_type), []).append(handler)

    def unregister_handler(
        self, event_type: str | type[DomainEvent], handler: EventHandler
    ) -> bool:
        handlers = self._handlers.get(_name(event_type), [])
        if handler not in handlers:
            return False
        handlers.remove(handler)
        return True

    def hears(self, event_type: str) -> bool:
        return bool(self._handlers.get(event_type) or self._handlers.get(ALL_EVENTS))

    async def publish(self, event: DomainEvent) -> int:
        failed = 0
        for event_type in (event.event_type, ALL_EVENTS):
            for handler in tuple(self._handlers.get(event_type, ())):
                failed += not await self._call(handler, event)
        self.failures += failed
        return failed

    async def publish_many(self, events: Iterable[DomainEvent]) -> int:
        return sum([await self.publish(event) for event in events])

    async def _call(self, handler: EventHandler, event: DomainEvent) -> bool:
        about = {
            "event_type": event.event_type,
            "event_id": event.id,
            "handler": getattr(handler, "__qualname__", repr(handler)),
        }
        try:
            outcome = handler(event)
            if inspect.isawaitable(outcome):
                await outcome
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            log.warning("An event handler waited for what was cancelled.", extra=about)
            return False
        except Exception:
            log.exception("An event handler failed.", extra=about)
            return False
        return True


def _name(event_type: str | type[DomainEvent]) -> str:
    return event_type if isinstance(event_type, str) else event_type.event_type
