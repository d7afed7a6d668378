"""A server of the engine's own: its listener on TCP, the very one that ClickHouse has.

chDB carries the engine's command line beside the embedded engine, and that can listen: it speaks
all of the native protocol, so that servers can ask each other. To import the package opens the
embedded engine, after which the command line cannot start; so the module is loaded without it.

``python server_internals.py FOLDER`` serves the folder, as ``FOLDER/clickhouse-local.xml`` says,
until standard input ends.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

_SERVE = (
    "SYSTEM START LISTEN TCP;"
    " SELECT sleepEachRow(1) FROM system.numbers SETTINGS max_block_size = 1 FORMAT Null"
)


def load() -> Any:
    """The module of chDB, and not its package."""
    found = importlib.util.find_spec("chdb")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("chdb is not installed")
    folder = Path(found.origin).parent
    package = types.ModuleType("chdb")
    package.__path__ = [str(folder)]
    package.__file__ = found.origin
    sys.modules["chdb"] = package
    before = Path.cwd()
    os.chdir(folder)  # where it looks for a library of its own
    try:
        # Its symbols must not be those of other libraries: as the package does it.
        ctypes.CDLL(str(folder / "_chdb.abi3.so"), mode=sys.getdlopenflags() | os.RTLD_DEEPBIND)
        return importlib.import_module("chdb._chdb")
    finally:
        os.chdir(before)


def main(folder: str) -> None:
    engine = load()
    os.chdir(folder)
    os.environ["HOME"] = folder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    engine.query(_SERVE, "CSV", path=str(Path(folder) / "store"))
    raise SystemExit("the engine did not serve")


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
