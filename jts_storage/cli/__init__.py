"""The command ``jts-storage``: parse, call, print."""

import sys

_INTERRUPTED = 130


class Debug:
    """Whether errors are shown with their traceback."""

    wanted = False


def command() -> None:
    """Run the console script, and answer Ctrl-C during the long imports too."""
    try:
        from jts_storage.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before it began.\n")
        sys.exit(_INTERRUPTED)
