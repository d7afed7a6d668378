"""Workers as processes of the operating system, which can be stopped, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from tests.histories.process import Spec
from tests.histories.servers import Network

NUMBERS_A_START = 20_000
"""Transactions are numbered from a new thousand on at each start, so that none comes twice."""
_ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0


class Died(Exception):
    """A worker ended by itself, which none should."""


class Worker:
    """One worker over its starts."""

    def __init__(self, spec: Spec, network: Network, folder: Path, step: int) -> None:
        self.network = network
        self.apart = spec.apart
        self._spec = spec
        self._folder = folder
        self._step = step
        self._process: subprocess.Popen[str] | None = None
        self._log = folder / f"{spec.name}.log"

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def is_dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self, apart: float | None = None) -> None:
        """Start it, with its clock so far from the true time."""
        self.apart = self.apart if apart is None else apart
        self._spec = replace(self._spec, first=self._spec.first + self._step, apart=self.apart)
        path = self._folder / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self._spec)))
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.histories.process", str(path)],
                stdin=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=_ROOT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            )

    def order(self, line: str) -> None:
        process = self._running
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._running.send_signal(number)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_PATIENCE)
            _close(process)

    def stop(self) -> None:
        """Let it end what it is doing; one that does not within a minute is killed, and told of."""
        self.order("stop")
        process, self._process = self._running, None
        try:
            code = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_PATIENCE)
            raise Died(f"{self.name} did not stop; its last words: {self._words()}") from None
        finally:
            _close(process)
        if code:
            raise Died(f"{self.name} ended with {code}: {self._words()}")

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() not in (None, -signal.SIGKILL):
            raise Died(f"{self.name} does not run: {self._words()}")
        return self._process

    def _words(self) -> str:
        return self._log.read_text(errors="replace")[-3_000:]


def _close(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
