"""The examples are projects of their own: `test_example_service` and `test_example_api` run them."""

from __future__ import annotations

collect_ignore = ["example_service", "example_api"]
