"""A uvicorn server on the loopback interface: the port is open before the application is made, and Ctrl-C ends it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from otel_runtime.errors import ConfigError, RuntimeStateError

__all__ = ["LoopbackServer", "loopback"]


def loopback(host: str) -> str:
    """The host as a loopback address.

    Raises:
        ConfigError: It is another one: without TLS and log-in nobody else may reach what is served.
    """
    if host == "localhost":
        return "127.0.0.1"
    if _is_loopback(host):
        return host
    mend = "in this version it listens on this machine only; use `127.0.0.1` and, from elsewhere, `ssh -L`"
    raise ConfigError.of("S220", f"otel-runtime cannot listen on `{host}`: {mend}", "--host")


# Bytes of one WebSocket message; uvicorn closes the connection over a larger one.
_MESSAGE: Final = 4 * 1024 * 1024


class LoopbackServer:
    """One application on one port of this machine.

    Args:
        host: A loopback address.
        port: Port; 0 takes a free one.
        application: Makes what is served, from the host as it stands in an address and the port that was taken.

    Raises:
        ConfigError: The host is no loopback address.
        RuntimeStateError: The port is taken.
    """

    def __init__(self, host: str, port: int, application: Callable[[str, int], ASGIApp]) -> None:
        self._socket = _listening(loopback(host), port)
        self.port: int = self._socket.getsockname()[1]
        self.host: str = f"[{host}]" if ":" in host else host
        # No access log: it would print the token. No proxy headers: nothing stands in front on this machine.
        config = uvicorn.Config(
            application(self.host, self.port),
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=10,
            h11_max_incomplete_event_size=16 * 1024,
            limit_concurrency=64,
            ws_max_size=_MESSAGE,
            ws_max_queue=2,
        )
        self._server = uvicorn.Server(config)

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

    def run_for_a_person(self, greeting: str) -> None:
        """Serve until Ctrl-C, which is how a person stops it and no error.

        Args:
            greeting: Lines to print once the port is open.
        """

        def greet() -> None:
            sys.stdout.write(greeting)
            sys.stdout.flush()

        try:
            self.run(greet)
        except KeyboardInterrupt:
            # No traceback for what was asked for.
            sys.stderr.write("stopped\n")

    def stop(self) -> None:
        """Ask `run` to return; safe from another thread."""
        self._server.should_exit = True


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # A name, not an address: where it leads may change between this check and the listening.
        return False


def _listening(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(64)
    except OSError as problem:
        listener.close()
        raise RuntimeStateError(
            f"cannot listen on `{host}:{port}`: {problem.strerror}; take another port, or 0 for a free one"
        ) from problem
    return listener
