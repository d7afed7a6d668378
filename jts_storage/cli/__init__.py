"""The command ``jts-storage``: parse, call, print."""
