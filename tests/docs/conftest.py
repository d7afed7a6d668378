"""The examples are projects of their own, whose tests other tests run."""

from __future__ import annotations

collect_ignore = ["example_service", "example_api"]
