"""What stands before every call: who calls, whether he may, and how many calls there are."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from grpc import aio

from jts_storage.remote.methods import METHODS
from jts_storage.remote.server.tokens import Caller, Tokens

_BEARER: Final = "Bearer "
_HEALTH: Final = "/grpc.health.v1.Health/"
_WRITING: Final = frozenset(
    {"Gateway/Work", "Gateway/Commit", "Gateway/Subscribe", "Gateway/Handle"}
)
_EVERYBODY: Final = Caller("everybody", frozenset({"read", "write", "admin"}))

log = logging.getLogger(__name__)

Handler = grpc.RpcMethodHandler


class Guard(aio.ServerInterceptor):
    """
    :param tokens: those that are known; None lets everybody in.
    """

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        caller = self._caller(handler_call_details)
        if caller is None:
            return _refusing(
                grpc.StatusCode.UNAUTHENTICATED,
                "no token that is known here",
                await continuation(handler_call_details),
            )
        path = str(handler_call_details.method)
        scope = _scope_of(path)
        handler = await continuation(handler_call_details)
        if scope not in caller.allows:
            log.warning("%s may not call %s, which needs the scope %s.", caller.name, path, scope)
            return _refusing(grpc.StatusCode.PERMISSION_DENIED, f"needs the scope {scope}", handler)
        return handler

    def _caller(self, details: grpc.HandlerCallDetails) -> Caller | None:
        if self._tokens is None:
            return _EVERYBODY
        for name, value in details.invocation_metadata or ():
            if name == "authorization" and str(value).startswith(_BEARER):
                return self._tokens.caller(str(value).removeprefix(_BEARER))
        return None


def _scope_of(path: str) -> str:
    """What a caller must be allowed; what is not known here is not found by anybody."""
    if path.startswith(_HEALTH):
        return "read"
    name = path.rpartition(".")[2]
    if name in _WRITING:
        return "write"
    return METHODS[name].scope if name in METHODS else "read"


def _refusing(code: grpc.StatusCode, details: str, like: Any) -> Any:
    """A handler of the same kind that refuses."""

    async def refuse(_: Any, context: aio.ServicerContext[Any, Any]) -> None:
        await context.abort(code, details)

    requests = bool(getattr(like, "request_streaming", False))
    answers = bool(getattr(like, "response_streaming", False))
    if requests and answers:
        return grpc.stream_stream_rpc_method_handler(refuse)
    if requests:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if answers:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)
