"""The command ``jts-storage``: parse, call, print."""

import gc
import sys

_INTERRUPTED = 130
_OBJECTS = 100_000
"""So many new objects may wait for the collector of garbage, not 700. A command imports hundreds of
modules, whose objects all stay, and looking at them again and again took a tenth of its time."""


class Debug:
    """Whether errors are shown with their traceback."""

    wanted = False


def command() -> None:
    """Run the console script, and answer Ctrl-C during the long imports too."""
    gc.set_threshold(_OBJECTS)
    try:
        from jts_storage.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before it began.\n")
        sys.exit(_INTERRUPTED)
