"""What starts, watches and stops a stack of services, whatever runs them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jts_storage.services.status import ServiceStatus


@runtime_checkable
class ServiceManager(Protocol):
    """Starts the services of a stack in order, watches them and stops them. Blocking.

    Each list has one status a service, in the order in which they start.
    """

    def start_services(self) -> list[ServiceStatus]:
        """Start what does not run, each once all that it needs is well; wait until it is well.

        One that does not become well is told as an error, and what needs it is not started.

        :raises StorageError: something stands in the way of a start, and nothing was started; all
            of it is named.
        """
        ...

    def monitor_health(self) -> list[ServiceStatus]:
        """Look at each service once, and start a failed one again when its pause is over.

        Call it again and again: it does not wait. One that fails a fourth time within a minute
        stays down and is told as an error. One whose needs are not well waits for them. One that
        lives and does not answer is left alone, unless the manager was told otherwise.
        """
        ...

    def status(self) -> list[ServiceStatus]:
        """Look at each service, and change nothing."""
        ...

    def restart(self, name: str) -> ServiceStatus:
        """Stop a service, start it, and wait until it is well; earlier failures are forgotten.

        :raises NotFound: the stack has no such service.
        """
        ...

    def stop_services(self) -> list[ServiceStatus]:
        """Stop all, each after those that need it: gracefully for as long as it may take, then
        by force, which is told. Data stay. Stopping twice is fine.
        """
        ...
