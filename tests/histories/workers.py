"""Workers as processes of the operating system, which can be stopped, killed and started again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.histories import process
from tests.histories.process import Spec
from tests.histories.servers import Network

NUMBERS_A_START = 20_000
"""How many transactions a worker may number before it must be started again."""
_PATIENCE = 60.0


class Died(Exception):
    """A worker ended by itself, which none should."""


@cache
def _forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.histories.preloaded"])
    return context


class Worker:
    """One worker over its starts.

    :param step: by how much the numbers of its transactions grow from start to start.
    """

    def __init__(self, spec: Spec, network: Network, step: int) -> None:
        self.network = network
        self._spec = spec
        self._step = step
        self._process: ForkServerProcess | None = None
        self._orders: Connection | None = None
        self._size_at_start = 0

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def is_at_work(self) -> bool:
        """Whether it has done something since its start: before that, faults show little."""
        return self._size() > self._size_at_start

    def start(self, apart: float | None = None) -> None:
        """Start it, with its clock so far from the true time, or as far as it was."""
        self.kill()
        self._spec = replace(
            self._spec,
            first=self._spec.first + self._step,
            apart=self._spec.apart if apart is None else apart,
        )
        self._size_at_start = self._size()
        orders, self._orders = _forks().Pipe(duplex=False)
        self._process = _forks().Process(target=process.main, args=(self._spec, orders))
        self._process.start()
        orders.close()

    def order(self, line: str) -> None:
        """Tell it something; one that has just killed itself, as it was told to, hears nothing."""
        if self._pid() is not None and self._orders is not None:
            with suppress(BrokenPipeError):
                self._orders.send(line)

    def set_clock(self, apart: float) -> None:
        self._spec = replace(self._spec, apart=apart)
        self.order(f"clock {apart}")

    def signal(self, number: signal.Signals) -> None:
        pid = self._pid()
        if pid is not None:
            os.kill(pid, number)

    def has_ended(self, within: float = 0) -> bool:
        """Whether it kills itself within so many seconds, as it was told to."""
        assert self._process is not None
        self._process.join(within)
        return self._pid() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def stop(self) -> None:
        """Let it end what it is doing; one that does not within a minute is killed, and told of."""
        self.order("stop")
        assert self._process is not None
        give_up = time.monotonic() + _PATIENCE
        while self._pid() is not None and time.monotonic() < give_up:
            self.signal(signal.SIGCONT)  # it may have stopped itself only now
            self._process.join(1)
            if self._process.exitcode == 0:
                break
        code = self._process.exitcode
        self.kill()
        if code is None:
            raise Died(f"{self.name} did not stop; its last words: {self._words()}")

    def _end(self) -> None:
        assert self._process is not None
        self._process.join(_PATIENCE)
        self._process.close()
        self._process = None
        if self._orders is not None:
            self._orders.close()

    def _pid(self) -> int | None:
        """None once it has killed itself.

        :raises Died: it ended in another way.
        """
        if self._process is None:
            return None
        if self._process.exitcode not in (None, 0, -signal.SIGKILL):
            raise Died(f"{self.name} ended with {self._process.exitcode}: {self._words()}")
        return self._process.pid if self._process.exitcode is None else None

    def _size(self) -> int:
        with suppress(FileNotFoundError):
            return Path(self._spec.records).stat().st_size
        return 0

    def _words(self) -> str:
        log = Path(self._spec.records).with_suffix(".log")
        return log.read_text(errors="replace")[-3_000:] if log.exists() else "none"
