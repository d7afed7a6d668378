"""Workers as processes of the operating system, which can be stopped, killed and started again."""

from __future__ import annotations

import multiprocessing
import os
import signal
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
        assert self._orders is not None
        self._check_alive()
        with suppress(BrokenPipeError):
            self._orders.send(line)

    def set_clock(self, apart: float) -> None:
        self._spec = replace(self._spec, apart=apart)
        self.order(f"clock {apart}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._check_alive(), number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def stop(self) -> None:
        """Let it end what it is doing; one that does not within a minute is killed, and told of."""
        self.order("stop")
        assert self._process is not None
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        self._end()
        if code != 0:
            how = "did not stop" if code is None else f"ended with {code}"
            raise Died(f"{self.name} {how}; its last words: {self._words()}")

    def _end(self) -> None:
        assert self._process is not None
        self._process.join(_PATIENCE)
        self._process.close()
        self._process = None
        if self._orders is not None:
            self._orders.close()

    def _check_alive(self) -> int:
        if self._process is None or not self._process.is_alive():
            raise Died(f"{self.name} does not run: {self._words()}")
        assert self._process.pid is not None
        return self._process.pid

    def _size(self) -> int:
        with suppress(FileNotFoundError):
            return Path(self._spec.records).stat().st_size
        return 0

    def _words(self) -> str:
        log = Path(self._spec.records).with_suffix(".log")
        return log.read_text(errors="replace")[-3_000:] if log.exists() else "none"
