"""The way to a gateway: channels to its addresses, calls, and what is repeated."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from random import random
from typing import Any, Final, TypeVar

import grpc
from grpc import aio
from tenacity import AsyncRetrying

from jts_storage._runtime.retries import repetitions
from jts_storage._runtime.steps import carried
from jts_storage._version import __version__
from jts_storage.domain.secret import plain
from jts_storage.errors import ConnectionFailed, OutcomeUnknown, StorageError
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote import problems, values
from jts_storage.remote.methods import METHODS
from jts_storage.remote.parts import assembled
from jts_storage.remote.protocol import (
    BOTH_ENDS,
    COMPRESSION,
    MAJOR,
    MINOR,
    SPEAKS,
    TRACE,
    TRADES_SINCE,
    path_of,
)
from jts_storage.remote.resuming import Resuming
from jts_storage.remote.wire import Batch, deserialized
from jts_storage.settings.gateway import GatewayConfig

T = TypeVar("T")

_OUTCOME: Final = "Storage/Outcome"  # final from the first time on

_OPTIONS: Final = (
    *BOTH_ENDS,
    # A channel that lost its gateway would wait for up to two minutes before it looks again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # What may be repeated is decided here; gRPC would repeat a commit as well.
    ("grpc.enable_retries", 0),
)


class Connection:
    """Channels to the addresses of one gateway, or of several alike. It belongs to one loop."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self._channels: dict[str, aio.Channel] = {}
        self._current = 0
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False
        self.models: frozenset[str] = frozenset()
        self.capabilities: frozenset[str] = frozenset()
        self.minor = 0
        """Of the protocol, as the gateway speaks it that was greeted."""

    async def open(self) -> None:
        """Greet the gateway.

        :raises ConnectionFailed: none answers.
        :raises StorageError: it speaks another protocol, or refuses the token.
        """
        self._loop, self.is_closed = asyncio.get_running_loop(), False
        left = list(self.config.addresses[1:])

        def is_worth(error: BaseException) -> bool:
            # One that hangs must not keep from those that do not.
            return is_away(error) or (
                isinstance(error, problems.GatewaySilent) and bool(left and left.pop())
            )

        self.check(await self.repeat("greeting the gateway", self._greet, is_worth))

    def check(self, answer: pb.ServerAnswer) -> None:
        """Take what a gateway says of itself.

        :raises StorageError: it speaks another protocol.
        """
        if answer.major != MAJOR:
            raise StorageError(
                f"The gateway at {self.address} (jts-storage {answer.version}) speaks protocol"
                f" {answer.major}, this client {MAJOR}.",
                remedy="Run the same release of jts-storage at both ends.",
            )
        self.models, self.minor = frozenset(answer.models), answer.minor
        self.capabilities = frozenset(answer.capabilities)

    async def _greet(self) -> pb.ServerAnswer:
        asked = pb.ServerRequest(major=MAJOR, minor=MINOR, version=__version__)
        call = self.channel.unary_unary(
            path_of("Gateway", "GetServer"),
            request_serializer=pb.ServerRequest.SerializeToString,
            response_deserializer=pb.ServerAnswer.FromString,
        )
        answer: pb.ServerAnswer = await call(
            asked, timeout=self.config.connect_timeout, metadata=self.metadata
        )
        return answer

    async def ready(self) -> None:
        """Return once there is something to call, where that takes looking for."""

    async def close(self) -> None:
        self.is_closed = True
        channels, self._channels = self._channels, {}
        if os.getpid() == self._process:
            await asyncio.gather(*(channel.close() for channel in channels.values()))

    @property
    def address(self) -> str:
        """The address that is used now."""
        return self.config.addresses[self._current % len(self.config.addresses)]

    @property
    def channel(self) -> aio.Channel:
        if os.getpid() != self._process:
            raise StorageError(
                "This storage was opened before the process forked, and cannot be used in a child.",
                remedy="Open a storage in the child.",
            )
        if self.is_closed:
            raise StorageError("This storage is closed.", remedy="Open it again.")
        if self._loop is not asyncio.get_running_loop():
            raise StorageError(
                "This storage was opened in another event loop.",
                remedy="Open one in each loop, or use jts_storage.sync, which all threads share.",
            )
        address = self.address
        if address not in self._channels:
            self._channels[address] = self._made(address)
        return self._channels[address]

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        if self.config.token is not None:
            found.append(("authorization", f"Bearer {plain(self.config.token)}"))
        if self.config.compression != "none":
            found.append((COMPRESSION, self.config.compression))
        found.append((SPEAKS, str(MINOR)))
        if (trace := carried.get()) is not None:
            found.append((TRACE, trace))
        return tuple(found)

    def arguments_of(self, given: Mapping[str, Any]) -> pb.Arguments:
        """As messages of the minor that the gateway speaks.

        :raises InvalidData: no gateway takes one of them.
        """
        before = values.in_columns.set(self.minor >= TRADES_SINCE)
        try:
            return arguments_of(given)
        finally:
            values.in_columns.reset(before)

    async def one(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """One value, asked for again where a gateway is away."""
        asked = self.arguments_of(arguments)
        ask = self._at_once if METHODS[method].comes == "at once" else self._in_parts
        if is_safe_twice(method):
            return await self.repeat(f"calling {method}", lambda: ask(method, asked))
        return await self._once(method, lambda: ask(method, asked))

    async def _once(self, method: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives, asked again only where it cannot have been heard.

        :raises OutcomeUnknown: the answer was lost.
        """

        def is_worth(error: BaseException) -> bool:
            return is_away(error) and problems.NOT_CONNECTED in str(error)

        try:
            return await self.repeat(f"calling {method}", ask, is_worth)
        except (problems.GatewayAway, problems.GatewaySilent) as exc:
            if is_worth(exc):
                raise
            raise OutcomeUnknown(
                f"Whether {method} took effect is unknown: {exc.args[0]}",
                hosts=exc.hosts,
                remedy="Look before you repeat it.",
            ) from exc

    async def many(self, method: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
        """One value after the other; where the gateway is lost, from the last one on."""
        resuming = Resuming(method, arguments)
        while True:
            await self.ready()
            asked = self.address
            try:
                async for left in resuming.rest(self.one):
                    asked = self.address
                    async with aclosing(
                        self._one_by_one(method, self.arguments_of(left))
                    ) as stream:
                        async for value in stream:
                            for each in resuming.new(value):
                                yield each
            except (problems.GatewayAway, problems.GatewaySilent) as exc:
                self.use_next(asked)
                hangs = isinstance(exc, problems.GatewaySilent) and self.address == asked
                if hangs or not resuming.goes_on():
                    raise
                await asyncio.sleep(self.config.retry_base_delay)
            else:
                return

    async def repeat(
        self,
        doing: str,
        ask: Callable[[], Awaitable[T]],
        is_worth: Callable[[BaseException], bool] | None = None,
    ) -> T:
        """What `ask` gives; asked again, of the next address, where a gateway is away.

        :param is_worth: which failures to ask again after, in place of those.
        """

        async def attempt() -> T:
            await self.ready()
            asked = self.address
            try:
                return await ask()
            except aio.AioRpcError as exc:
                error = self.error_of(exc, doing, asked)
                if isinstance(error, ConnectionFailed):
                    self.use_next(asked)
                raise error from exc
            except problems.GatewaySilent:
                self.use_next(asked)
                raise
            except asyncio.CancelledError:
                self.check_cancelled()
                raise

        is_worth = is_worth or is_away
        try:
            return await attempt()
        except StorageError as exc:
            if not self.config.max_retries or not is_worth(exc):
                raise
        policy = repetitions(self.config, self.config.max_retries, doing=doing, worth=is_worth)
        await asyncio.sleep(random() * self.config.retry_base_delay)
        return await AsyncRetrying(**policy)(attempt)

    def check_cancelled(self) -> None:
        """:raises StorageError: the call was cancelled by closing the storage, and not its task."""
        task = asyncio.current_task()
        if self.is_closed and (task is None or not task.cancelling()):
            raise StorageError("This storage was closed while a call ran.")

    def use_next(self, failed: str) -> None:
        """Talk to the address behind `failed` from now on, unless another call has seen to it."""
        if failed == self.address:
            self._current += 1

    def error_of(self, exc: aio.AioRpcError, doing: str, address: str) -> StorageError:
        """What a failed call means.

        :param address: that was called.
        """
        told = problems.told(exc)
        return problems.of_status(exc, doing, address) if told is None else told

    async def _at_once(self, method: str, asked: pb.Arguments) -> Any:
        call = self.channel.unary_unary(
            path_of(*method.split("/")),
            request_serializer=pb.Arguments.SerializeToString,
            response_deserializer=pb.Value.FromString,
        )
        timeout = None if METHODS[method].is_long else self.config.timeout
        return values.read(await call(asked, timeout=timeout, metadata=self.metadata))

    async def _in_parts(self, method: str, asked: pb.Arguments) -> Any:
        parts = self._parts(method, asked)
        try:
            async for value in assembled(parts):
                return value
        finally:
            await parts.aclose()
        raise StorageError(f"The gateway's answer to {method} is empty.")

    async def _one_by_one(self, method: str, asked: pb.Arguments) -> AsyncGenerator[Any, None]:
        parts, asked_at = self._parts(method, asked), self.address
        try:
            async for value in assembled(parts):
                yield value
        except aio.AioRpcError as exc:
            raise self.error_of(exc, f"calling {method}", asked_at) from exc
        except asyncio.CancelledError:
            self.check_cancelled()
            raise
        finally:
            await parts.aclose()

    async def _parts(
        self, method: str, asked: pb.Arguments
    ) -> AsyncGenerator[pb.Part | Batch, None]:
        called = self.channel.unary_stream(
            path_of(*method.split("/")),
            request_serializer=pb.Arguments.SerializeToString,
            response_deserializer=deserialized,
        )
        known, address = METHODS[method], self.address
        is_bound = known.comes == "in parts" and not known.is_long
        call = called(
            asked, timeout=self.config.timeout if is_bound else None, metadata=self.metadata
        )
        try:
            while (part := await self._read(call, known.is_long, address)) is not aio.EOF:
                yield part
        finally:
            call.cancel()  # who stops reading stops the gateway's reading, too

    async def _read(self, call: Any, is_long: bool, address: str) -> Any:
        try:
            async with asyncio.timeout(None if is_long else self.config.timeout):
                return await call.read()
        except TimeoutError:
            raise problems.too_slow(address, self.config.timeout) from None

    def _made(self, address: str) -> aio.Channel:
        config = self.config
        options: list[tuple[str, Any]] = list(_OPTIONS)
        if config.server_name is not None:
            options.append(("grpc.ssl_target_name_override", config.server_name))
        if not config.tls:
            return aio.insecure_channel(address, options=options)
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_read_file(config.ca_file),
            private_key=_read_file(config.key_file),
            certificate_chain=_read_file(config.cert_file),
        )
        return aio.secure_channel(address, credentials, options=options)


def is_away(error: BaseException) -> bool:
    """Whether nothing was reached: what only reads is worth another attempt."""
    return isinstance(error, problems.GatewayAway)


def is_safe_twice(method: str) -> bool:
    """Whether a second call has no effect beside that of the first."""
    return METHODS[method].scope == "read" or method == _OUTCOME


def arguments_of(given: Mapping[str, Any]) -> pb.Arguments:
    """
    :raises InvalidData: no gateway takes one of them.
    """
    asked = pb.Arguments()
    for name, value in given.items():
        values.fill(asked.named[name], value, name)
    return asked


def _read_file(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
