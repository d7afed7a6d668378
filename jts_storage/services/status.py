"""What is told of a service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from jts_storage.errors import InvalidData

State: TypeAlias = Literal["running", "stopped", "error"]
_STATES: Final = get_args(State)


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service at one moment.

    :param status: ``running``: it lives, and was well when it was last asked; ``stopped``: it is
        not to run, or is being started for the first time; ``error``: it has failed, or does not
        answer.
    :param uptime_seconds: since it was started; 0 unless it lives.
    :param health_check_url: what is asked whether it is well; None if nothing is asked.
    :param detail: what there is to say, such as why it is not well; empty if nothing.
    :param is_done: whether it was to do something and has ended well.
    :param restarts: how often it was started again since it was last well for a minute.
    :raises InvalidData: a value that no status has.
    """

    service_name: str
    status: State
    uptime_seconds: int = 0
    health_check_url: str | None = None
    detail: str = ""
    restarts: int = 0
    pid: int | None = None
    port: int | None = None
    is_done: bool = False

    def __post_init__(self) -> None:
        name: object = self.service_name
        if not isinstance(name, str) or not name:
            raise InvalidData("must name a service", field="service_name", value=name)
        if self.status not in _STATES:
            raise InvalidData(
                f"must be one of {', '.join(_STATES)}", field="status", value=self.status
            )
        for field in ("uptime_seconds", "restarts"):
            value = getattr(self, field)
            if type(value) is not int or value < 0:
                raise InvalidData("must be a whole number from 0 on", field=field, value=value)
        url: object = self.health_check_url
        if url is not None and (not isinstance(url, str) or not url):
            raise InvalidData("must be a URL or None", field="health_check_url", value=url)

    @property
    def is_well(self) -> bool:
        return self.status == "running" or self.is_done
