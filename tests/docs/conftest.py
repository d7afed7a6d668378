"""The example service is a project of its own: `test_example_service` runs its tests."""

from __future__ import annotations

collect_ignore = ["example_service"]
