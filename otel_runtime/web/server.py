"""Runs the inbox on the loopback interface, and tells the address to open."""

from __future__ import annotations

import secrets

from starlette.types import ASGIApp

from otel_runtime.web.app import inbox_app
from otel_runtime.web.door import Door
from otel_runtime.web.loopback import LoopbackServer
from otel_runtime.web.protocol import Inbox

__all__ = ["InboxServer"]


class InboxServer(LoopbackServer):
    """One inbox on one port.

    Args:
        inbox: Where requests are read and answered.
        identity: Who answers, such as `os:alice`.
        host: A loopback address.
        port: Port; 0 takes a free one.
        trace_url: The setting of that name.

    Raises:
        ConfigError: The host is no loopback address.
        RuntimeStateError: The port is taken.
    """

    def __init__(self, inbox: Inbox, identity: str, host: str = "127.0.0.1", port: int = 0, trace_url: str | None = None) -> None:
        self._token = secrets.token_urlsafe(32)

        def application(host: str, port: int) -> ASGIApp:
            door = Door(self._token, secrets.token_bytes(32), port, lambda: secrets.token_urlsafe(32), host)
            return inbox_app(inbox, door, identity, trace_url=trace_url)

        super().__init__(host, port, application)

    @property
    def url(self) -> str:
        """Address with the token that lets a browser in."""
        return f"http://{self.host}:{self.port}/enter?token={self._token}"
