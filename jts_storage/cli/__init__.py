"""The command ``jts-storage``: parse, call, print."""

import sys

_INTERRUPTED = 130


def command() -> None:
    """What the console script calls: it begins to listen to Ctrl-C before the long imports."""
    try:
        from jts_storage.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before it began.\n")
        sys.exit(_INTERRUPTED)
