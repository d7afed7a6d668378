"""Open chDB's library, by its file, before chDB is imported."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

DEPENDS_ON: dict[str, tuple[str, ...]] = {"chdb._chdb:connect": ()}
"""The module whose file is opened."""

_LIBRARIES: Final = "_chdb*.so"
_RTLD_DEEPBIND: Final = 0x8
"""As chDB opens its library: what both define is the library's own there."""


def open_library() -> None:
    """Open the 550 MB of chDB's library while other threads run.

    chDB holds the interpreter as it opens it, but for a library that is open already it is done at
    once. It opens it itself where this did not.
    """
    spec = find_spec("chdb") if sys.platform == "linux" else None
    places = spec.submodule_search_locations if spec is not None else None
    for library in (found for place in places or () for found in Path(place).glob(_LIBRARIES)):
        dlopen = ctypes.CDLL(None).dlopen  # called as any C function, which holds nothing up
        dlopen.argtypes = (ctypes.c_char_p, ctypes.c_int)
        dlopen.restype = ctypes.c_void_p
        dlopen(os.fsencode(library), sys.getdlopenflags() | _RTLD_DEEPBIND)
