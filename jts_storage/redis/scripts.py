"""Lua scripts, which Redis runs as one step: sent by their digest, in full where it has forgotten.

Every key of a call has the same hash tag, so that a cluster keeps them in one place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Script:
    """One script.

    :param text: in Lua.
    """

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self.digest: Final = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(
        self, client: Redis, keys: Sequence[str | bytes], *arguments: str | bytes | int | float
    ) -> Any:
        """:raises redis.exceptions.RedisError: as the client does."""
        from redis.exceptions import NoScriptError

        run: Any = client
        try:
            return await run.evalsha(self.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await run.eval(self.text, len(keys), *keys, *arguments)
