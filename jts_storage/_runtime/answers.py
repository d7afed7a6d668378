"""Whether a store answers, told in the log when that changes and not at each look."""

from __future__ import annotations

import logging


class Answers:
    """
    :param log: of whoever asks the store.
    :param store: as the log names it.
    """

    def __init__(self, log: logging.Logger, store: str) -> None:
        self._log, self._store = log, store
        self._answers = True

    def seen(self, why_not: object | None = None) -> None:
        """Hear of a look at it.

        :param why_not: what was wrong; None if it answered.
        """
        before, self._answers = self._answers, why_not is None
        about = {"store": self._store}
        if before and not self._answers:
            self._log.warning("%s does not answer: %s", self._store, why_not, extra=about)
        elif self._answers and not before:
            self._log.warning("%s answers again.", self._store, extra=about)
