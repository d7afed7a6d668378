"""All that the kit uses of PyMongo's sessions beside what it documents."""

from __future__ import annotations

from pymongo.asynchronous.client_session import AsyncClientSession

DEPENDS_ON = {
    "pymongo.asynchronous.client_session:AsyncClientSession": ("_server_session",),
}
"""What is used of a class; an attribute counts that its ``__init__`` sets. The class of a server's
session, of which `mark_dirty` is called, has another module in each release.
"""


def retire(session: AsyncClientSession) -> None:
    """Let the driver give this session to nobody after its end, as it does itself when a
    connection breaks: who ends it by its id must not meet another transaction.
    """
    if session._server_session is not None:  # noqa: SLF001
        session._server_session.mark_dirty()  # noqa: SLF001
