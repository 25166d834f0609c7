"""One question to an HTTP server, within one bound of time and size; whatever is not a plain, whole JSON answer is an `OpaFailure`.

Ours on the standard library and not httpx or urllib: both follow settings of the environment (proxies) and bound the time of each read but
not of the whole answer, so that a server that sends a byte now and then holds a call for hours. Here one deadline covers the name lookup,
the connection, the request and the last byte of the answer. Redirects are answers like any other, and no good ones.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["MAX_ANSWER", "OpaClient", "OpaFailure"]

MAX_ANSWER: Final = 256 << 10
_MOST_IDLE: Final = 8
_IDLE_S: Final = 30.0
_DIGITS: Final = 1_000


class OpaFailure(Exception):
    """There is no answer that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class _Idle:
    connection: http.client.HTTPConnection
    since: float


class OpaClient:
    """Asks one URL; connections are kept and may be used from any thread.

    Args:
        url: `http` or `https`, without user, password and fragment.
        timeout_s: Seconds one question may take in all.
        token: Sent as a bearer token; None sends none.

    Raises:
        ValueError: The URL is not one of these.
    """

    def __init__(self, url: str, timeout_s: float, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.username is not None:
            # Not repeated: it may hold a password.
            raise ValueError("the URL holds a user or password, which is not sent; put a token into the file that `opa_token_file` names")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
            raise ValueError(f"expected a URL such as `http://127.0.0.1:8181/v1/data/agent/decision`, got `{url}`")
        if any(char <= " " or char >= "\x7f" for char in url):
            raise ValueError("the URL holds characters that belong into no URL")
        self.timeout_s: float = timeout_s
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        query = f"{parts.query}&" if parts.query else ""
        # A built-in that fails must be an error: by default its rule is undefined, so that a deny vanishes. (Operands of a wrong type stay undefined.)
        self._target = f"{parts.path or '/'}?{query}strict-builtin-errors=true&provenance=true"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        # Not `__del__`: a collector that finds a cycle may finalize the sockets first, each of which then warns that nobody closed it.
        weakref.finalize(self, _close, self._idle)
        self._process = os.getpid()

    def ask(self, body: bytes, deadline: float) -> Any:
        """The JSON value of the answer.

        Args:
            body: JSON.
            deadline: `time.monotonic()` at which there is no answer.

        Raises:
            OpaFailure: There is none that can be used.
        """
        try:
            return self._asked(body, deadline)
        except TimeoutError:
            raise OpaFailure(f"no answer within {self.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise OpaFailure(f"{type(error).__name__}: {error}") from None

    def _asked(self, body: bytes, deadline: float) -> Any:
        kept = self._taken()
        if kept is not None:
            # Closed while nobody used it: a question changes nothing, so it can be asked again.
            with contextlib.suppress(http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                return self._over(kept, body, deadline)
        return self._over(self._connected(deadline), body, deadline)

    def _taken(self) -> http.client.HTTPConnection | None:
        now = time.monotonic()
        with self._lock:
            if self._process != os.getpid():
                # After a fork the other process goes on using them: closing them here says nothing to the server.
                _close(self._idle)
                self._process = os.getpid()
            while self._idle:
                kept = self._idle.pop()
                if now - kept.since < _IDLE_S:
                    return kept.connection
                kept.connection.close()
        return None

    def _kept(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _MOST_IDLE and self._process == os.getpid():
                self._idle.append(_Idle(connection, time.monotonic()))
                return
        connection.close()

    def _connected(self, deadline: float) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port)
        raw = self._socket(deadline)
        try:
            raw.settimeout(_left(deadline))
            if self._tls is not None:
                raw = self._tls.wrap_socket(raw, server_hostname=self._host)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            raw.close()
            raise
        connection.sock = _Bounded(raw)
        return connection

    def _socket(self, deadline: float) -> socket.socket:
        problem: OSError | None = None
        for family, kind, protocol, _name, address in _within(lambda: _addresses(self._host, self._port), deadline):
            raw = socket.socket(family, kind, protocol)
            try:
                raw.settimeout(_left(deadline))
                raw.connect(address)
            except OSError as error:
                raw.close()
                problem = error
                continue
            return raw
        raise problem or OSError("the name has no address")

    def _over(self, connection: http.client.HTTPConnection, body: bytes, deadline: float) -> Any:
        """One exchange; the connection is kept when the answer was whole, else closed."""
        bounded = connection.sock
        whole = False
        try:
            if not isinstance(bounded, _Bounded):
                raise http.client.RemoteDisconnected("the connection is closed")
            bounded.deadline = deadline
            connection.request("POST", self._target, body, self._headers)
            with connection.getresponse() as response:
                answer = _checked(response)
                whole = not response.will_close
            return answer
        finally:
            if whole:
                self._kept(connection)
            else:
                connection.close()


def _close(idle: list[_Idle]) -> None:
    # Called by a collector too, which must not wait for a lock; nobody else has them then.
    while idle:
        idle.pop().connection.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    return left


def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _within(look: Callable[[], list[tuple[Any, ...]]], deadline: float) -> list[tuple[Any, ...]]:
    """What a lookup finds; it cannot be interrupted, so it runs beside and is left alone when it takes too long."""
    found: list[list[tuple[Any, ...]] | OSError] = []

    def run() -> None:
        try:
            found.append(look())
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=run, name="otel-runtime-opa-lookup", daemon=True)
    thread.start()
    thread.join(_left(deadline))
    if not found:
        raise TimeoutError("the name was not found in time")
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


class _Bounded:
    """A socket whose every step ends at one deadline; what `http.client` needs of a socket and no more."""

    def __init__(self, raw: socket.socket) -> None:
        self.deadline: float = 0.0
        self._raw = raw
        self._readers = 0
        self._closed = False

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._raw.settimeout(_left(self.deadline))
            view = view[self._raw.send(view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Reading(self))

    def receive(self, buffer: Any) -> int:
        self._raw.settimeout(_left(self.deadline))
        return self._raw.recv_into(buffer)

    def close(self, *, reader: bool = False) -> None:
        """Close; as with any socket, who still reads may read to the end first."""
        self._readers -= reader
        self._closed = self._closed or not reader
        if self._closed and self._readers <= 0:
            self._raw.close()


class _Reading(io.RawIOBase):
    def __init__(self, bounded: _Bounded) -> None:
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.receive(buffer)

    def close(self) -> None:
        if not self.closed:
            self._bounded.close(reader=True)
        super().close()


def _checked(response: http.client.HTTPResponse) -> Any:
    """The JSON value of an answer that is one in every respect."""
    if response.status != 200:
        raise OpaFailure(f"it answered with status {response.status}, expected 200")
    kind = (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise OpaFailure(f"it answered with `{kind[:60] or 'no content type'}`, expected `application/json`")
    if (encoding := response.headers.get("Content-Encoding")) not in {None, "identity"}:
        raise OpaFailure(f"it answered in the encoding `{str(encoding)[:60]}`, which was not asked for")
    sizes = response.headers.get_all("Content-Length", [])
    if len(sizes) > (0 if response.chunked else 1) or not all(size.strip().isdecimal() for size in sizes):
        # RFC 9112, 6.3: where two say differently how long it is, it may be anybody's.
        raise OpaFailure("it answered with a length that contradicts itself")
    if response.length is not None and response.length > MAX_ANSWER:
        raise OpaFailure(f"its answer has {response.length} bytes, at most {MAX_ANSWER} are read")
    text = response.read(MAX_ANSWER + 1)
    if len(text) > MAX_ANSWER:
        raise OpaFailure(f"its answer has more than {MAX_ANSWER} bytes")
    if response.length:
        raise OpaFailure("its answer broke off")
    response.read()
    return _json(text)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_constant, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise OpaFailure(f"its answer is no plain JSON ({str(error)[:100]})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"`{name}` is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)
