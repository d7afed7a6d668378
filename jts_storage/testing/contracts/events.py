"""The contract of `EventPublisher`."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from jts_storage.domain.events import DomainEvent
from jts_storage.ports.events import ALL_EVENTS, EventPublisher


@dataclass(frozen=True, kw_only=True)
class PriceMoved(DomainEvent):
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class MarketClosed(DomainEvent):
    pass


@pytest.mark.asyncio
class EventPublisherContract:
    """Give it a fixture `publisher` without handlers."""

    async def test_plain_and_coroutine_functions_are_called(
        self, publisher: EventPublisher
    ) -> None:
        seen: list[tuple[str, DomainEvent]] = []

        async def coroutine(event: DomainEvent) -> None:
            seen.append(("coroutine", event))

        publisher.register_handler("price_moved", lambda event: seen.append(("plain", event)))
        publisher.register_handler(PriceMoved, coroutine)
        event = PriceMoved()
        assert await publisher.publish(event) == 0
        assert seen == [("plain", event), ("coroutine", event)]

    async def test_only_handlers_of_its_type_and_of_all_are_called(
        self, publisher: EventPublisher
    ) -> None:
        seen: list[str] = []
        publisher.register_handler(ALL_EVENTS, lambda event: seen.append("all"))
        publisher.register_handler(PriceMoved, lambda event: seen.append("moved"))
        await publisher.publish(MarketClosed())
        assert seen == ["all"]
        await publisher.publish(PriceMoved())
        assert seen == ["all", "moved", "all"]

    async def test_hears_the_types_that_handlers_are_registered_for(
        self, publisher: EventPublisher
    ) -> None:
        def handler(event: DomainEvent) -> None: ...

        for event_type in (PriceMoved, ALL_EVENTS):
            publisher.register_handler(event_type, handler)
            assert publisher.hears(PriceMoved.event_type)
            publisher.unregister_handler(event_type, handler)

    async def test_order_is_kept(self, publisher: EventPublisher) -> None:
        seen: list[int] = []
        publisher.register_handler(PriceMoved, lambda event: seen.append(event.number))
        assert await publisher.publish_many(PriceMoved(number=n) for n in range(100)) == 0
        assert seen == list(range(100))

    async def test_a_failing_handler_is_logged_counted_and_harms_nobody(
        self, publisher: EventPublisher, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[DomainEvent] = []

        def fail(event: DomainEvent) -> None:
            raise RuntimeError("boom")

        async def fail_later(event: DomainEvent) -> None:
            raise RuntimeError("later")

        publisher.register_handler(PriceMoved, fail)
        publisher.register_handler(PriceMoved, fail_later)
        publisher.register_handler(PriceMoved, seen.append)
        event = PriceMoved()
        with caplog.at_level(logging.ERROR):
            assert await publisher.publish(event) == 2
        assert seen == [event]
        assert caplog.text.count("Traceback") == 2
        assert "boom" in caplog.text

    async def test_an_unregistered_handler_is_called_no_more(
        self, publisher: EventPublisher
    ) -> None:
        seen: list[DomainEvent] = []
        publisher.register_handler(PriceMoved, seen.append)
        assert publisher.unregister_handler(PriceMoved, seen.append) is True
        assert publisher.unregister_handler(PriceMoved, seen.append) is False
        await publisher.publish(PriceMoved())
        assert seen == []
