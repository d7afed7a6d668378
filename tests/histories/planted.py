"""Faults to be put into a worker by name, to show that the checker finds them."""

from __future__ import annotations

from collections.abc import Callable

PLANTED: dict[str, Callable[[], None]] = {}
