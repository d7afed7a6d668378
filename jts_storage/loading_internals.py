"""Import chDB sooner than by `import chdb`."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

DEPENDS_ON: dict[str, tuple[str, ...]] = {"chdb._chdb:connect": (), "chdb:engine_version": ()}
"""The module whose file is opened, and what chDB asks it for while it is imported."""

_LIBRARIES: Final = "_chdb*.so"
_one_at_a_time: Final = threading.Lock()
_RTLD_DEEPBIND: Final = 0x8
"""As chDB opens its library: what both define is the library's own there."""


def import_engine() -> None:
    """Import chDB, once.

    :raises ImportError: it is not installed.
    """
    if "chdb" in sys.modules:
        return
    open_library()
    with _one_at_a_time:
        if "chdb" not in sys.modules:
            _import_without_start()
    import_module("chdb")


def open_library() -> None:
    """Open the 550 MB of chDB's library while other threads run.

    chDB holds the interpreter as it opens it, but for a library that is open already it is done at
    once. It opens it itself where this did not.
    """
    for library in _libraries():
        dlopen = ctypes.CDLL(None).dlopen  # called as any C function, which holds nothing up
        dlopen.argtypes = (ctypes.c_char_p, ctypes.c_int)
        dlopen.restype = ctypes.c_void_p
        dlopen(os.fsencode(library), sys.getdlopenflags() | _RTLD_DEEPBIND)


def tell_version(version: str) -> None:
    """Let `chdb.engine_version` be what an engine says that was opened."""
    chdb: Any = sys.modules["chdb"]
    chdb.engine_version = version


def _libraries() -> Iterator[Path]:
    spec = find_spec("chdb") if sys.platform == "linux" else None
    places = spec.submodule_search_locations if spec is not None else None
    return (found for place in places or () for found in Path(place).glob(_LIBRARIES))


def _import_without_start() -> None:
    """Import chDB without the engine in memory that it starts and ends, to ask for its version.

    That takes 60 ms, in which nothing else of Python runs.
    """
    library = next(_libraries(), None)
    spec = spec_from_file_location("chdb._chdb", library) if library is not None else None
    if spec is None or spec.loader is None:
        return
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["chdb._chdb"] = module
    connect, module.connect = module.connect, _NotStarted
    try:
        with _staying_here():
            import_module("chdb")
    except Exception:  # noqa: BLE001 - whatever it is, chDB as it comes is tried next
        sys.modules.pop("chdb", None)
    finally:
        module.connect = connect


@contextmanager
def _staying_here() -> Iterator[None]:
    """Leave the working directory as it is: chDB goes to its own while it opens its library.

    That is the directory of all threads: a store that another one opens by a relative path would
    lie beside chDB. The library is open already.
    """
    chdir, importing = os.chdir, threading.get_ident()

    def others(path: Any) -> None:
        if threading.get_ident() != importing:
            chdir(path)

    os.chdir = others
    try:
        yield
    finally:
        os.chdir = chdir


class _NotStarted:
    """Stands for an engine that is asked for its version."""

    def query(self, *_: object) -> _NotStarted:
        return self

    def bytes(self) -> bytes:
        return b""

    def close(self) -> None:
        """There is nothing to close."""
