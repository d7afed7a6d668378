"""What of a cluster needs a Keeper is played: no server of the tests has one.

A statement ON CLUSTER, which Keeper hands to the servers, is sent to each of them; and a replicated
engine, whose replicas agree through it, becomes the plain one of the same kind. All else is real.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from jts_storage.clickhouse.transport import TcpTransport
from tests.integration.cluster.servers import CLUSTER, Shards

_ON_CLUSTER: Final = re.compile(rf"\s+ON CLUSTER `?{CLUSTER}`?")
_REPLICATED: Final = re.compile(r"Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?")
_WINDOW: Final = re.compile(r"\breplicated_deduplication_window")


def plain(query: str) -> str:
    """The statement with engines that need no Keeper."""
    return _WINDOW.sub("non_replicated_deduplication_window", _REPLICATED.sub(r"\1(", query))


@contextmanager
def played(shards: Shards) -> Iterator[None]:
    """Let the kit's statements reach each server as Keeper would hand them on."""
    send = TcpTransport.execute

    def on_each(self: TcpTransport, query: str, *args: Any, **kwargs: Any) -> Any:
        alone = _ON_CLUSTER.sub("", query)
        if alone == query:
            return send(self, query, *args, **kwargs)
        here, params = (
            self.connection,
            next((each for each in args if isinstance(each, dict)), None),
        )
        for each in shards.shards:
            if each.port != here.port:
                each.ask(plain(alone), here.database, params=params)
        return send(self, plain(alone), *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TcpTransport, "execute", on_each)
        yield
