"""An observer that writes down what it hears."""

from __future__ import annotations

from typing import Any

from jts_storage.ports.observation import Call


class Recorded:
    """One call, as it was told."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.steps: list[str] = []
        self.parts: list[Any] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.ends = 0

    def reached(self, step: str) -> None:
        self.steps.append(step)

    def given(self, part: Any) -> None:
        self.parts.append(part)

    def done(self, result: Any) -> None:
        self.result = result
        self.ends += 1

    def failed(self, error: BaseException) -> None:
        self.error = error
        self.ends += 1


class Recorder:
    """Keeps every call, in the order in which they began."""

    def __init__(self) -> None:
        self.calls: list[Recorded] = []

    def begin(self, call: Call) -> Recorded:
        recorded = Recorded(call)
        self.calls.append(recorded)
        return recorded

    def of(self, repository: str, operation: str) -> Recorded:
        """The one call of its kind."""
        (found,) = self.all_of(repository, operation)
        return found

    def all_of(self, repository: str, operation: str) -> list[Recorded]:
        kind = (repository, operation)
        return [each for each in self.calls if each.call[1:3] == kind]
