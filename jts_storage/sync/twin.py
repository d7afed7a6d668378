"""What all blocking twins of ports have."""

from __future__ import annotations

from typing import TYPE_CHECKING


class Twin:
    """Stands for an asynchronous object."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if not name.startswith("_"):
                getattr(self._twin, name)  # which says where writing is done, if it only reads
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )
