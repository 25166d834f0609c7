"""Runs the inbox with uvicorn on the loopback interface, and tells the address to open."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from ipaddress import ip_address

import uvicorn

from otel_runtime.errors import ConfigError, RuntimeStateError
from otel_runtime.web.app import inbox_app
from otel_runtime.web.door import Door
from otel_runtime.web.protocol import Inbox

__all__ = ["InboxServer", "loopback"]


def loopback(host: str) -> str:
    """The host as a loopback address.

    Raises:
        ConfigError: It is another one: without TLS and log-in nobody else may reach the inbox.
    """
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ip_address(host).is_loopback:
            return host
    except ValueError:
        # Not an address: refused below like any other name.
        pass
    mend = "in this version it listens on this machine only; use `127.0.0.1` and, from elsewhere, `ssh -L`"
    raise ConfigError.of("S220", f"the inbox cannot listen on `{host}`: {mend}", "--host")


class InboxServer:
    """One inbox on one port.

    Args:
        inbox: Where requests are read and answered.
        identity: Who answers, such as `os:alice`.
        host: A loopback address.
        port: Port; 0 takes a free one.

    Raises:
        ConfigError: The host is no loopback address.
        RuntimeStateError: The port is taken.
    """

    def __init__(self, inbox: Inbox, identity: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = _listen(loopback(host), port)
        self.port: int = self._socket.getsockname()[1]
        self._host = f"[{host}]" if ":" in host else host
        self._token = secrets.token_urlsafe(32)
        door = Door(self._token, secrets.token_bytes(32), self.port, lambda: secrets.token_urlsafe(32), self._host)
        # No access log: it would print the token. No proxy headers: nothing stands in front on this machine.
        config = uvicorn.Config(
            inbox_app(inbox, door, identity),
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=10,
            h11_max_incomplete_event_size=16 * 1024,
            limit_concurrency=64,
        )
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        """Address with the token that lets a browser in."""
        return f"http://{self._host}:{self.port}/enter?token={self._token}"

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until the process is told to stop.

        Args:
            started: Called before the first request is taken; the port is open by then.
        """
        started()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Ask `run` to return; safe from another thread."""
        self._server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(64)
    except OSError as problem:
        listener.close()
        raise RuntimeStateError(
            f"cannot listen on `{host}:{port}`: {problem.strerror}; take another --port, or 0 for a free one"
        ) from problem
    return listener
